"""Watches, their ends, what has expired, informers and leader election."""

import threading
import time
import unittest

from kubernetes import client, watch
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from support import Case

# More than the server keeps of the past, written as versions of one object.
LARGE = "x" * 600_000
TIMES = 45


class Watches(Case):
    def list(self, **named):
        return self.core.list_namespaced_config_map(self.namespace, **named)

    def label(self, name, value):
        return self.core.patch_namespaced_config_map(name, self.namespace, {"metadata": {"labels": {"l": value}}})

    def events(self, timeout_seconds=1, **named):
        stream = watch.Watch().stream(
            self.core.list_namespaced_config_map, self.namespace, timeout_seconds=timeout_seconds, **named)
        return [(event["type"], event["object"].metadata.name) for event in stream]

    def test_a_watch_begins_where_it_is_told_and_ends_in_time(self):
        self.configmap("w-old", labels={"of": "w"})
        version = self.list().metadata.resource_version
        self.configmap("w-new", labels={"of": "w"})
        self.label("w-new", "1")
        self.core.delete_namespaced_config_map("w-new", self.namespace)
        begun = time.monotonic()
        told = self.events(resource_version=version, label_selector="of=w")
        self.assertEqual(told, [("ADDED", "w-new"), ("MODIFIED", "w-new"), ("DELETED", "w-new")])
        self.assertTrue(0.9 <= time.monotonic() - begun < 5, "timeoutSeconds ends a watch that has nothing to tell")
        self.assertEqual(self.events(label_selector="of=w"), [("ADDED", "w-old")], "without a version it begins with what is there")
        self.assertEqual(self.events(resource_version="0", field_selector="metadata.name=w-old"), [("ADDED", "w-old")])

    def test_a_selector_makes_objects_come_and_go(self):
        self.configmap("s", labels={"l": "out"})
        version = self.list().metadata.resource_version
        for value in ("in", "in", "out", "in"):
            self.core.patch_namespaced_config_map(
                "s", self.namespace, {"metadata": {"labels": {"l": value}, "annotations": {"t": str(time.monotonic())}}})
        told = self.events(resource_version=version, label_selector="l=in")
        self.assertEqual([kind for kind, _ in told], ["ADDED", "MODIFIED", "DELETED", "ADDED"])

    def test_a_watcher_stops_itself_and_goes_on_where_it_was(self):
        version = self.list().metadata.resource_version
        for number in range(6):
            self.configmap(f"stop-{number}", labels={"of": "stop"})
        told, place = [], watch.Watch()
        for event in place.stream(
                self.core.list_namespaced_config_map, self.namespace, label_selector="of=stop", resource_version=version):
            told.append(event["object"].metadata.name)
            if len(told) == 3:
                place.stop()
        told += [name for _, name in self.events(resource_version=place.resource_version, label_selector="of=stop")]
        self.assertEqual(told, [f"stop-{number}" for number in range(6)])

    def test_bookmarks_and_the_end_of_what_was_there(self):
        self.configmap("b")
        stream = watch.Watch().stream(
            self.core.list_namespaced_config_map, self.namespace, timeout_seconds=2, allow_watch_bookmarks=True,
            send_initial_events=True, resource_version_match="NotOlderThan", deserialize=False)
        kinds = []
        for event in stream:
            kinds.append(event["type"])
            notes = event["object"]["metadata"].get("annotations") or {}
            if notes.get("k8s.io/initial-events-end") == "true":
                break
        self.assertEqual(kinds[-1], "BOOKMARK")
        self.assertEqual(set(kinds[:-1]), {"ADDED"})
        body = self.refused(
            422, "Invalid", self.list, watch=True, send_initial_events=True, resource_version_match="Exact", resource_version="1")
        self.assertIn("sendInitialEvents", body["message"])

    def test_what_is_too_old_has_expired(self):
        # Secrets, because the tests beside this one need the past of other kinds.
        list_secrets = lambda **named: self.core.list_namespaced_secret(self.namespace, **named)
        for name in ("a", "b"):
            self.core.create_namespaced_secret(self.namespace, {"metadata": {"name": name}})
        first = list_secrets(limit=1)
        for number in range(TIMES):
            self.core.patch_namespaced_secret("a", self.namespace, {"stringData": {"large": f"{number}{LARGE}"}})
        old = first.metadata.resource_version
        with self.assertRaises(client.ApiException) as caught:
            list(watch.Watch().stream(self.core.list_namespaced_secret, self.namespace, timeout_seconds=5, resource_version=old))
        self.assertEqual(caught.exception.status, 410)
        self.assertTrue(caught.exception.reason.startswith(f"Expired: too old resource version: {old} ("), caught.exception.reason)
        body = self.refused(410, "Expired", list_secrets, resource_version=old, resource_version_match="Exact")
        self.assertEqual(body["message"], "The resourceVersion for the provided list is too old.")
        body = self.refused(410, "Expired", list_secrets, limit=1, _continue=first.metadata._continue)
        self.assertIn("The provided continue parameter is too old to display a consistent list result", body["message"])
        rest = list_secrets(limit=500, _continue=body["metadata"]["continue"])
        self.assertEqual([item.metadata.name for item in rest.items], ["b"])
        body = self.refused(504, "Timeout", list_secrets, resource_version="99999999")
        self.assertIn("Too large resource version: 99999999, current: ", body["message"])

    def test_an_informer_keeps_a_cache(self):
        told, lock = [], threading.Lock()
        def tell(kind):
            def told_of(item):
                with lock:
                    told.append((kind, item.metadata.name))
            return told_of
        self.configmap("i-1", labels={"of": "i"})
        informer = SharedInformer(
            list_func=self.core.list_namespaced_config_map, namespace=self.namespace, label_selector="of=i")
        for kind in (ADDED, MODIFIED, DELETED):
            informer.add_event_handler(kind, tell(kind))
        informer.start()
        try:
            self.eventually(lambda: (ADDED, "i-1") in told, "what was there is told")
            self.configmap("i-2", labels={"of": "i"})
            self.eventually(lambda: (ADDED, "i-2") in told, "what is new is told")
            self.core.patch_namespaced_config_map("i-1", self.namespace, {"data": {"a": "b"}})
            self.eventually(lambda: (MODIFIED, "i-1") in told, "a change is told")
            self.core.delete_namespaced_config_map("i-1", self.namespace)
            self.eventually(lambda: (DELETED, "i-1") in told, "a deletion is told")
            self.assertEqual([item.metadata.name for item in informer.cache.list()], ["i-2"])
        finally:
            informer.stop()

    def test_one_leads_until_it_stops(self):
        for kind in (ConfigMapLock, LeaseLock):
            with self.subTest(kind.__name__):
                self.elects(kind)

    def elects(self, kind):
        leading, name = [], "elected-" + kind.__name__.lower()
        def candidate(identity):
            lock = kind(name, self.namespace, identity)
            settings = electionconfig.Config(
                lock, lease_duration=3, renew_deadline=2.5, retry_period=1,
                onstarted_leading=lambda: leading.append(identity), onstopped_leading=lambda: leading.append("no " + identity))
            election = leaderelection.LeaderElection(settings)
            threading.Thread(target=election.run, daemon=True).start()
            return lock
        first = candidate("one")
        self.eventually(lambda: leading == ["one"], "the first leads")
        second = candidate("two")
        status, record = second.get(name, self.namespace)
        self.assertEqual((status, record.holder_identity), (True, "one"))
        time.sleep(1.5)
        self.assertEqual(leading, ["one"], "nobody else leads while it renews")
        # The first can no longer write, as if cut off; the second takes over once the lease has run out.
        first.update = lambda *_: False
        self.eventually(lambda: "two" in leading and "no one" in leading, "the second leads", 20)
        self.assertEqual(second.get(name, self.namespace)[1].holder_identity, "two")
        second.update = lambda *_: False


if __name__ == "__main__":
    unittest.main()
