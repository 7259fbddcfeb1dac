"""An operator written with kopf, killed and started again."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from kubernetes import client
from support import Case

SPEC = {"type": "object", "properties": {"shelves": {"type": "integer"}}}
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION = {
    "metadata": {"name": "shops.clients.example"},
    "spec": {
        "group": "clients.example",
        "scope": "Namespaced",
        "names": {"plural": "shops", "singular": "shop", "kind": "Shop"},
        "versions": [{
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC, "status": OPEN}}},
        }],
    },
}
FINALIZER = "clients.example/shop"


class Kopf(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.custom = client.CustomObjectsApi()
        cls.of = ("clients.example", "v1", cls.namespace, "shops")
        client.ApiextensionsV1Api().create_custom_resource_definition(DEFINITION)

    @classmethod
    def tearDownClass(cls):
        client.ApiextensionsV1Api().delete_custom_resource_definition("shops.clients.example")
        super().tearDownClass()

    def operator(self, file="operator_of_shops.py", **environment):
        here = os.path.dirname(os.path.abspath(__file__))
        command = [sys.executable, "-m", "kopf", "run", "--quiet", "--standalone", "-n", self.namespace, file]
        running = subprocess.Popen(command, cwd=here, env={**os.environ, **environment})
        self.addCleanup(running.wait)
        self.addCleanup(running.kill)
        return running

    def open(self, name, count):
        body = {"apiVersion": "clients.example/v1", "kind": "Shop", "metadata": {"name": name}, "spec": {"shelves": count}}
        self.custom.create_namespaced_custom_object(*self.of, body)

    def shop(self, name):
        return self.custom.get_namespaced_custom_object(*self.of, name)

    def status(self, name):
        return self.shop(name).get("status", {})

    def maps(self, **more):
        return {item.metadata.name for item in self.core.list_namespaced_config_map(self.namespace, **more).items}

    def test_an_operator_reconciles_dies_and_resumes(self):
        running = self.operator()
        self.open("corner", 2)
        self.eventually(lambda: self.status("corner").get("opened"), "the shop is open")
        self.assertEqual(self.maps(label_selector="shop=corner"), {"corner-0", "corner-1"})
        self.assertEqual(self.shop("corner")["metadata"]["finalizers"], [FINALIZER])
        self.assertEqual(self.status("corner")["created"], {"shelves": 2})
        owner = self.core.read_namespaced_config_map("corner-0", self.namespace).metadata.owner_references[0]
        self.assertEqual((owner.kind, owner.name), ("Shop", "corner"))
        ticks = self.eventually(lambda: self.status("corner").get("ticks"), "the timer ticks")
        self.eventually(lambda: self.status("corner")["ticks"] > ticks, "it ticks again")
        self.eventually(lambda: "corner-minded" in self.maps(), "the daemon runs")
        told = lambda: {event.reason for event in self.core.list_namespaced_event(
            self.namespace, field_selector="involvedObject.name=corner").items}
        self.eventually(lambda: "Opened" in told(), "the event is posted")

        self.custom.patch_namespaced_custom_object(*self.of, "corner", {"spec": {"shelves": 3}})
        self.eventually(lambda: self.status("corner").get("change") == "2 to 3", "the change is handled, at the second try")
        self.assertIn("corner-2", self.maps())
        self.core.delete_namespaced_config_map("corner-0", self.namespace)
        self.eventually(lambda: "corner-0-missed" in self.maps(), "a deletion of what is watched is told")

        self.open("vain", 500)
        self.eventually(lambda: "opened" not in self.status("vain") and [
            event for event in self.core.list_namespaced_event(self.namespace, field_selector="involvedObject.name=vain").items
            if "nobody needs so many shelves" in event.message], "a lasting error is told")

        running.kill()
        running.wait()
        self.custom.patch_namespaced_custom_object(*self.of, "corner", {"spec": {"shelves": 4}})
        self.custom.delete_namespaced_custom_object(*self.of, "corner")
        self.assertIn("deletionTimestamp", self.shop("corner")["metadata"], "the finalizer keeps it while nobody minds")
        self.open("second", 1)
        self.operator()
        def gone():
            try:
                self.shop("corner")
            except client.ApiException as error:
                return error.status == 404
        self.eventually(gone, "what was deleted meanwhile goes")
        self.assertIn("corner-closed", self.maps())
        self.eventually(lambda: self.status("second").get("opened"), "what was made meanwhile is handled")
        self.eventually(lambda: not self.maps(label_selector="shop=corner"), "owned shelves go with their shop")
        self.eventually(lambda: self.status("vain").get("resumed") == 1, "what was there is resumed")
        self.custom.delete_namespaced_custom_object(*self.of, "vain")
        self.custom.delete_namespaced_custom_object(*self.of, "second")
        self.eventually(lambda: not self.custom.list_namespaced_custom_object(*self.of)["items"], "all shops are gone")

    def test_webhooks_change_and_judge(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        certificate, key = os.path.join(folder, "certificate"), os.path.join(folder, "key")
        # Signed by itself and fit to sign others, as most make it.
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        running = self.operator("operator_with_webhooks.py", CERTIFICATE=certificate, KEY=key)
        hooks = client.AdmissionregistrationV1Api()
        listed = lambda: [
            hook for which in (hooks.list_validating_webhook_configuration, hooks.list_mutating_webhook_configuration)
            for item in which().items if item.metadata.name == "shops.clients.example" for hook in item.webhooks or []]
        self.eventually(lambda: len(listed()) == 3, "the operator registers its webhooks")
        self.open("kept", 1)
        meta = self.shop("kept")["metadata"]
        self.assertEqual(meta["labels"], {"street": "high"})
        self.assertTrue(meta["annotations"]["opened-by"])
        body = self.refused(422, "", self.open, "bad", -1)
        self.assertIn("denied the request: shelves hang on walls", body["message"])
        patch = self.custom.patch_namespaced_custom_object
        body = self.refused(422, "", patch, *self.of, "kept", {"spec": {"shelves": -5}})
        self.assertIn('admission webhook "judge.', body["message"])
        body = self.refused(403, "", self.custom.delete_namespaced_custom_object, *self.of, "kept")
        self.assertIn("this shop is listed", body["message"])
        warned = self.custom.patch_namespaced_custom_object_with_http_info(*self.of, "kept", {"spec": {"shelves": 10}})
        self.assertIn("that is a warehouse", warned[2]["Warning"])
        running.terminate()
        running.wait()
        self.eventually(lambda: not listed(), "the operator takes its webhooks away")
        self.custom.delete_namespaced_custom_object(*self.of, "kept")


if __name__ == "__main__":
    unittest.main()
