"""Every kind of patch, server-side apply, the dynamic client, and definitions of custom resources."""

import unittest

from kubernetes import client, dynamic
from kubernetes.dynamic import exceptions
from support import Case

JSON, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


def deployment(name, **container):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "stead.local/demo:1", **container}]},
            },
        },
    }


def definition():
    number = {"type": "integer", "minimum": 0}
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": number,
                    "colour": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                    "parts": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "required": ["name"],
                                  "properties": {"name": {"type": "string"}, "weight": number}},
                    },
                },
                "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "size never shrinks"}],
            },
            "status": {"type": "object", "properties": {"size": number}},
        },
    }
    return {
        "metadata": {"name": "widgets.clients.example"},
        "spec": {
            "group": "clients.example",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            }],
        },
    }


class Patches(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.apps = client.AppsV1Api()
        cls.dynamic = dynamic.DynamicClient(client.ApiClient())
        cls.deployments = cls.dynamic.resources.get(api_version="apps/v1", kind="Deployment")

    def patch(self, name, body, content_type):
        return self.apps.patch_namespaced_deployment(name, self.namespace, body, _content_type=content_type)

    def apply(self, body, manager, **more):
        return self.deployments.server_side_apply(body, namespace=self.namespace, field_manager=manager, **more)

    def test_strategic_merge_knows_keys_of_lists(self):
        self.apps.create_namespaced_deployment(self.namespace, deployment("strategic", env=[{"name": "A", "value": "1"}]))
        more = {"name": "side", "image": "stead.local/demo:1"}
        env = [{"name": "B", "value": "2"}, {"name": "A", "$patch": "delete"}]
        body = {"spec": {"template": {"spec": {"containers": [more, {"name": "main", "env": env}]}}}}
        spec = self.patch("strategic", body, STRATEGIC).spec.template.spec
        main = next(container for container in spec.containers if container.name == "main")
        self.assertEqual({container.name for container in spec.containers}, {"main", "side"})
        self.assertEqual([(one.name, one.value) for one in main.env], [("B", "2")])
        body = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": None}}}
        strategy = self.patch("strategic", body, STRATEGIC).spec.strategy
        self.assertEqual((strategy.type, strategy.rolling_update), ("Recreate", None))

    def test_merge_replaces_lists(self):
        self.apps.create_namespaced_deployment(self.namespace, deployment("merge"))
        only = [{"name": "other", "image": "stead.local/demo:1"}]
        body = {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {"containers": only}}}}
        made = self.patch("merge", body, MERGE)
        self.assertEqual([container.name for container in made.spec.template.spec.containers], ["other"])
        self.assertIsNone(self.patch("merge", {"metadata": {"labels": None}}, MERGE).metadata.labels)

    def test_json_patches_test_and_fail_whole(self):
        self.apps.create_namespaced_deployment(self.namespace, deployment("json"))
        change = [
            {"op": "test", "path": "/spec/replicas", "value": 0},
            {"op": "add", "path": "/metadata/annotations", "value": {"a/b": "1"}},
            {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"},
        ]
        self.assertEqual(self.patch("json", change, JSON).metadata.annotations["a/b"], "2")
        wrong = [{"op": "remove", "path": "/metadata/annotations"}, {"op": "test", "path": "/spec/replicas", "value": 5}]
        body = self.refused(422, "Invalid", self.patch, "json", wrong, JSON)
        self.assertIn("the server rejected our request due to an error in our request", body["message"])
        self.assertEqual(self.apps.read_namespaced_deployment("json", self.namespace).metadata.annotations["a/b"], "2")
        self.refused(400, "BadRequest", self.patch, "json", [{"op": "dance"}], JSON)
        self.refused(415, "UnsupportedMediaType", self.patch, "json", {}, "application/json")
        body = self.refused(422, "Invalid", self.patch, "json", {"spec": {"selector": {"matchLabels": {"app": "x"}}}}, MERGE)
        self.assertIn("spec.selector", [cause["field"] for cause in body["details"]["causes"]])

    def test_appliers_own_fields(self):
        self.apply(deployment("applied", env=[{"name": "A", "value": "1"}]), "first")
        other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "applied"}, "spec": {"replicas": 3}}
        with self.assertRaises(exceptions.ConflictError) as caught:
            self.apply(other, "second")
        self.assertIn('conflict with "first": .spec.replicas', caught.exception.summary())
        forced = self.apply(other, "second", force_conflicts=True)
        self.assertEqual(forced.spec.replicas, 3)
        managers = {entry.manager: entry for entry in forced.metadata.managedFields}
        self.assertEqual({name: entry.operation for name, entry in managers.items() if name in ("first", "second")},
                         {"first": "Apply", "second": "Apply"})
        self.assertIn("f:replicas", managers["second"].fieldsV1["f:spec"].to_dict())
        self.assertNotIn("f:replicas", managers["first"].fieldsV1["f:spec"].to_dict())
        without = deployment("applied")
        del without["spec"]["replicas"]
        left = self.apply(without, "first").spec
        self.assertEqual((left.replicas, left.template.spec.containers[0].env), (3, None), "what is no longer applied goes")
        self.apply({**other, "spec": {"replicas": 0}}, "second")

    def test_the_dynamic_client(self):
        body = deployment("dynamic")
        made = self.deployments.create(body=body, namespace=self.namespace)
        self.assertEqual(made.metadata.name, "dynamic")
        self.deployments.patch(body={"metadata": {"name": "dynamic", "labels": {"x": "y"}}}, namespace=self.namespace)
        found = self.deployments.get(namespace=self.namespace, label_selector="x=y")
        self.assertEqual([item.metadata.name for item in found.items], ["dynamic"])
        kinds = [event["type"] for event in self.deployments.watch(
            namespace=self.namespace, name="dynamic", timeout=1, resource_version=made.metadata.resourceVersion)]
        self.assertIn("MODIFIED", kinds)
        scale = self.deployments.scale.get(name="dynamic", namespace=self.namespace)
        self.assertEqual((scale.kind, scale.status.replicas, scale.spec.to_dict()), ("Scale", 0, {}), "nought is left out")
        gone = self.deployments.delete(name="dynamic", namespace=self.namespace)
        self.assertEqual((gone.kind, gone.status, gone.details.name), ("Status", "Success", "dynamic"))
        with self.assertRaises(exceptions.NotFoundError):
            self.deployments.get(name="dynamic", namespace=self.namespace)
        with self.assertRaises(exceptions.ResourceNotFoundError):
            self.dynamic.resources.get(api_version="v1", kind="Absent")
        lists = self.dynamic.resources.get(api_version="v1", kind="ConfigMapList")
        items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"of-list-{n}"}} for n in (1, 2)]
        self.assertEqual(len(lists.create(
            body={"apiVersion": "v1", "kind": "ConfigMapList", "items": items}, namespace=self.namespace).items), 2)
        self.assertEqual(self.dynamic.version["kubernetes"]["minor"], "36")

    def test_custom_resources(self):
        extensions, custom = client.ApiextensionsV1Api(), client.CustomObjectsApi()
        extensions.create_custom_resource_definition(definition())
        self.addCleanup(extensions.delete_custom_resource_definition, "widgets.clients.example")
        established = lambda: "Established" in [
            condition.type for condition in
            extensions.read_custom_resource_definition("widgets.clients.example").status.conditions or []
            if condition.status == "True"]
        self.eventually(established, "the definition is established")
        of = ("clients.example", "v1", self.namespace, "widgets")
        widget = {"apiVersion": "clients.example/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 2, "unknown": 1}}
        made = custom.create_namespaced_custom_object(*of, widget)
        self.assertEqual(made["spec"], {"size": 2, "colour": "red"})
        body = self.refused(422, "Invalid", custom.patch_namespaced_custom_object, *of, "w", {"spec": {"size": 1}})
        self.assertIn("size never shrinks", body["message"])
        body = self.refused(422, "Invalid", custom.create_namespaced_custom_object, *of,
                            {**widget, "metadata": {"name": "x"}, "spec": {"colour": "green"}})
        self.assertIn('Unsupported value: "green": supported values: "blue", "red"', body["message"].replace('"red", "blue"', '"blue", "red"'))
        self.assertIn("spec.size: Required value", body["message"])
        custom.patch_namespaced_custom_object_status(*of, "w", {"status": {"size": 2}, "spec": {"size": 9}})
        read = custom.get_namespaced_custom_object(*of, "w")
        self.assertEqual((read["spec"]["size"], read["status"], read["metadata"]["generation"]), (2, {"size": 2}, 1))
        scale = custom.get_namespaced_custom_object_scale(*of, "w")
        self.assertEqual((scale["spec"]["replicas"], scale["status"]["replicas"]), (2, 2))

        widgets = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="clients.example/v1", kind="Widget")
        def parts(manager, **weights):
            body = {"apiVersion": "clients.example/v1", "kind": "Widget", "metadata": {"name": "w"},
                    "spec": {"parts": [{"name": name, "weight": weight} for name, weight in weights.items()]}}
            applied = widgets.server_side_apply(body, namespace=self.namespace, field_manager=manager)
            return {part.name: part.weight for part in applied.spec.parts}
        parts("one", a=1)
        self.assertEqual(parts("two", b=2), {"a": 1, "b": 2}, "each owns an entry of the list")
        with self.assertRaises(exceptions.ConflictError) as caught:
            parts("two", a=5, b=2)
        self.assertIn('conflict with "one": .spec.parts[name="a"].weight', caught.exception.summary())
        self.assertEqual(parts("one", c=3), {"b": 2, "c": 3})
        custom.delete_namespaced_custom_object(*of, "w")
        self.assertEqual(custom.list_namespaced_custom_object(*of)["items"], [])


if __name__ == "__main__":
    unittest.main()
