"""Typed create, read, update, delete and list of many kinds, and what errors say."""

import datetime
import os
import tempfile
import unittest

from kubernetes import client, utils
from kubernetes.client import models as m
from support import Case

LABELS = {"app": "web"}
TEMPLATE = m.V1PodTemplateSpec(
    metadata=m.V1ObjectMeta(labels=LABELS),
    spec=m.V1PodSpec(containers=[m.V1Container(name="main", image="stead.local/demo:1")]),
)
SELECTOR = m.V1LabelSelector(match_labels=LABELS)
RULE = m.V1PolicyRule(api_groups=[""], resources=["pods"], verbs=["get"])
NEVER = {"unmatched": "true"}


def ref(kind, name):
    return m.V1RoleRef(api_group="rbac.authorization.k8s.io", kind=kind, name=name)


def never_scheduled():
    """A template whose pods stay pending: what is tested is the object, not the pods."""
    template = m.V1PodTemplateSpec(metadata=TEMPLATE.metadata, spec=m.V1PodSpec(**TEMPLATE.spec.to_dict()))
    template.spec.node_selector = NEVER
    return template


def job_template():
    template = never_scheduled()
    template.spec.restart_policy = "Never"
    return template


def kinds():
    """(API, the client's word for the kind, a typed spec or body) of namespaced kinds."""
    core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()
    network, policy, rbac = client.NetworkingV1Api(), client.PolicyV1Api(), client.RbacAuthorizationV1Api()
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)
    backend = m.V1IngressBackend(service=m.V1IngressServiceBackend(name="web", port=m.V1ServiceBackendPort(number=80)))
    path = m.V1HTTPIngressPath(path="/", path_type="Prefix", backend=backend)
    rule = m.V1IngressRule(host="a.example", http=m.V1HTTPIngressRuleValue(paths=[path]))
    metric = m.V2MetricSpec(
        type="Resource",
        resource=m.V2ResourceMetricSource(name="cpu", target=m.V2MetricTarget(type="Utilization", average_utilization=60)),
    )
    claim = m.V1PersistentVolumeClaimSpec(
        access_modes=["ReadWriteOnce"], resources=m.V1VolumeResourceRequirements(requests={"storage": "1Mi"})
    )
    job = m.V1JobSpec(template=job_template(), backoff_limit=2)
    return [
        (core, "config_map", m.V1ConfigMap(data={"a": "1"}, binary_data={"b": "AAEC"})),
        (core, "secret", m.V1Secret(string_data={"a": "secret"}, type="Opaque")),
        (core, "service", m.V1Service(spec=m.V1ServiceSpec(selector=LABELS, ports=[m.V1ServicePort(port=80)]))),
        (core, "service_account", m.V1ServiceAccount()),
        (core, "pod", m.V1Pod(spec=never_scheduled().spec)),
        (core, "persistent_volume_claim", m.V1PersistentVolumeClaim(spec=claim)),
        (core, "endpoints", m.V1Endpoints(subsets=[m.V1EndpointSubset(addresses=[m.V1EndpointAddress(ip="10.9.9.9")])])),
        (core, "limit_range", m.V1LimitRange(spec=m.V1LimitRangeSpec(limits=[m.V1LimitRangeItem(type="Pod", max={"cpu": "8"})]))),
        (core, "resource_quota", m.V1ResourceQuota(spec=m.V1ResourceQuotaSpec(hard={"pods": "100"}))),
        (core, "pod_template", m.V1PodTemplate(template=TEMPLATE)),
        (core, "replication_controller", m.V1ReplicationController(
            spec=m.V1ReplicationControllerSpec(replicas=0, selector=LABELS, template=TEMPLATE))),
        (apps, "deployment", m.V1Deployment(spec=m.V1DeploymentSpec(replicas=0, selector=SELECTOR, template=TEMPLATE))),
        (apps, "stateful_set", m.V1StatefulSet(
            spec=m.V1StatefulSetSpec(replicas=0, service_name="web", selector=SELECTOR, template=TEMPLATE))),
        (apps, "daemon_set", m.V1DaemonSet(spec=m.V1DaemonSetSpec(selector=SELECTOR, template=never_scheduled()))),
        (apps, "replica_set", m.V1ReplicaSet(spec=m.V1ReplicaSetSpec(replicas=0, selector=SELECTOR, template=TEMPLATE))),
        (apps, "controller_revision", m.V1ControllerRevision(revision=7, data={"a": {"b": 1}})),
        (batch, "job", m.V1Job(spec=job)),
        (batch, "cron_job", m.V1CronJob(
            spec=m.V1CronJobSpec(schedule="0 0 1 1 *", job_template=m.V1JobTemplateSpec(spec=job)))),
        (network, "ingress", m.V1Ingress(spec=m.V1IngressSpec(rules=[rule]))),
        (network, "network_policy", m.V1NetworkPolicy(
            spec=m.V1NetworkPolicySpec(pod_selector=SELECTOR, policy_types=["Ingress"]))),
        (policy, "pod_disruption_budget", m.V1PodDisruptionBudget(
            spec=m.V1PodDisruptionBudgetSpec(min_available="50%", selector=SELECTOR))),
        (rbac, "role", m.V1Role(rules=[RULE])),
        (rbac, "role_binding", m.V1RoleBinding(
            role_ref=ref("Role", "absent"),
            subjects=[m.RbacV1Subject(kind="User", name="jane", api_group="rbac.authorization.k8s.io")])),
        (client.CoordinationV1Api(), "lease", m.V1Lease(
            spec=m.V1LeaseSpec(holder_identity="me", lease_duration_seconds=5, renew_time=when))),
        (client.AutoscalingV2Api(), "horizontal_pod_autoscaler", m.V2HorizontalPodAutoscaler(
            spec=m.V2HorizontalPodAutoscalerSpec(max_replicas=3, metrics=[metric],
                scale_target_ref=m.V2CrossVersionObjectReference(kind="Deployment", name="web", api_version="apps/v1")))),
        (client.DiscoveryV1Api(), "endpoint_slice", m.V1EndpointSlice(
            address_type="IPv4", endpoints=[m.V1Endpoint(addresses=["10.9.9.9"])], ports=[m.DiscoveryV1EndpointPort(port=80)])),
        (client.EventsV1Api(), "event", m.EventsV1Event(
            event_time=when, action="Tested", reason="Test", type="Normal", reporting_controller="tests.example/x",
            reporting_instance="x-1", note="a note", regarding=m.V1ObjectReference(kind="Pod", name="x", namespace="objects"))),
        (client.StorageV1Api(), "csi_storage_capacity", m.V1CSIStorageCapacity(storage_class_name="fast", capacity="1Gi")),
    ]


class Objects(Case):
    def test_every_kind_is_created_read_replaced_listed_and_deleted(self):
        for api, word, body in kinds():
            with self.subTest(word):
                self.lives(api, word, body)

    def lives(self, api, word, body):
        verb = lambda name: getattr(api, f"{name}_namespaced_{word}")
        name = "it-" + word.replace("_", "-")
        body.metadata = m.V1ObjectMeta(name=name, labels={"of": "test"})
        made = verb("create")(self.namespace, body)
        self.assertIsNone(body.metadata.uid)
        self.assertTrue(made.metadata.uid and made.metadata.resource_version and made.metadata.creation_timestamp)
        again = verb("read")(name, self.namespace)
        self.assertEqual(again.metadata.uid, made.metadata.uid)
        conflict = self.refused(409, "AlreadyExists", verb("create"), self.namespace, body)
        self.assertTrue(conflict["message"].endswith(f'"{name}" already exists'), conflict["message"])

        # A controller may write between reading and replacing: the client tries again, as every client does.
        for _ in range(20):
            again = verb("read")(name, self.namespace)
            again.metadata.annotations = {"note": "replaced"}
            try:
                replaced = verb("replace")(name, self.namespace, again)
                break
            except client.ApiException as error:
                self.assertEqual((error.status, error.reason), (409, "Conflict"))
        self.assertEqual(replaced.metadata.annotations["note"], "replaced")
        self.assertNotEqual(replaced.metadata.resource_version, made.metadata.resource_version)
        again.metadata.resource_version = made.metadata.resource_version
        stale = self.refused(409, "Conflict", verb("replace"), name, self.namespace, again)
        self.assertIn("the object has been modified; please apply your changes to the latest version", stale["message"])

        patched = verb("patch")(name, self.namespace, {"metadata": {"labels": {"of": None, "is": "patched"}}})
        self.assertEqual(patched.metadata.labels.get("of"), None)
        self.assertEqual(patched.metadata.labels["is"], "patched")
        listed = verb("list")(self.namespace, label_selector="is=patched")
        self.assertEqual([item.metadata.name for item in listed.items], [name])
        self.assertTrue(listed.kind.endswith("List") and listed.metadata.resource_version)
        everywhere = getattr(api, f"list_{word}_for_all_namespaces")(field_selector=f"metadata.name={name}")
        self.assertEqual([item.metadata.namespace for item in everywhere.items], [self.namespace])

        verb("delete")(name, self.namespace, grace_period_seconds=0, propagation_policy="Background")
        def gone():
            try:
                verb("read")(name, self.namespace)
            except client.ApiException as error:
                return error.status == 404
        self.eventually(gone, f"{word} is gone")
        missing = self.refused(404, "NotFound", verb("read"), name, self.namespace)
        self.assertEqual(missing["details"]["name"], name)
        verb("create")(self.namespace, body)
        verb("delete_collection")(self.namespace, label_selector="of=test", grace_period_seconds=0)
        self.eventually(gone, f"the collection of {word} is gone")

    def test_kinds_of_the_cluster(self):
        core, storage = self.core, client.StorageV1Api()
        rbac = client.RbacAuthorizationV1Api()
        meta = lambda: m.V1ObjectMeta(name="clients-python")
        source = m.V1PersistentVolumeSpec(
            capacity={"storage": "1Mi"}, access_modes=["ReadWriteOnce"], storage_class_name="none",
            host_path=m.V1HostPathVolumeSource(path="/tmp"))
        hook = m.AdmissionregistrationV1WebhookClientConfig(url="https://127.0.0.1:1/")
        validating = m.V1ValidatingWebhook(
            name="a.clients.example", client_config=hook, side_effects="None", admission_review_versions=["v1"],
            failure_policy="Ignore", match_conditions=[m.V1MatchCondition(expression="false", name="never")])
        chosen = [
            (core, "persistent_volume", m.V1PersistentVolume(spec=source)),
            (core, "namespace", m.V1Namespace()),
            (storage, "storage_class", m.V1StorageClass(provisioner="clients.example/none")),
            (storage, "csi_driver", m.V1CSIDriver(spec=m.V1CSIDriverSpec(attach_required=False))),
            (rbac, "cluster_role", m.V1ClusterRole(rules=[RULE])),
            (rbac, "cluster_role_binding", m.V1ClusterRoleBinding(
                role_ref=ref("ClusterRole", "view"))),
            (client.SchedulingV1Api(), "priority_class", m.V1PriorityClass(value=1000, description="x")),
            (client.NodeV1Api(), "runtime_class", m.V1RuntimeClass(handler="runc")),
            (client.NetworkingV1Api(), "ingress_class", m.V1IngressClass(spec=m.V1IngressClassSpec(controller="clients.example/x"))),
            (client.AdmissionregistrationV1Api(), "validating_webhook_configuration",
                m.V1ValidatingWebhookConfiguration(webhooks=[validating])),
            (client.FlowcontrolApiserverV1Api(), "priority_level_configuration", m.V1PriorityLevelConfiguration(
                spec=m.V1PriorityLevelConfigurationSpec(type="Limited", limited=m.V1LimitedPriorityLevelConfiguration(
                    limit_response=m.V1LimitResponse(type="Reject"))))),
        ]
        for api, word, body in chosen:
            with self.subTest(word):
                body.metadata = meta()
                verb = lambda name: getattr(api, f"{name}_{word}")
                made = verb("create")(body)
                self.assertTrue(made.metadata.uid)
                self.assertEqual(verb("read")("clients-python").metadata.uid, made.metadata.uid)
                patched = verb("patch")("clients-python", {"metadata": {"labels": {"a": "b"}}})
                self.assertEqual(patched.metadata.labels["a"], "b")
                names = [item.metadata.name for item in verb("list")(label_selector="a in (b, c)").items]
                self.assertEqual(names, ["clients-python"])
                verb("delete")("clients-python")

    def test_status_and_scale(self):
        apps = client.AppsV1Api()
        selector, template = m.V1LabelSelector(match_labels={"app": "scaled"}), never_scheduled()
        template.metadata = m.V1ObjectMeta(labels={"app": "scaled"})
        body = m.V1Deployment(
            metadata=m.V1ObjectMeta(name="scaled"),
            spec=m.V1DeploymentSpec(replicas=1, selector=selector, template=template))
        apps.create_namespaced_deployment(self.namespace, body)
        scale = apps.read_namespaced_deployment_scale("scaled", self.namespace)
        self.assertEqual((scale.spec.replicas, scale.status.selector), (1, "app=scaled"))
        scale.spec.replicas = 2
        apps.replace_namespaced_deployment_scale("scaled", self.namespace, scale)
        apps.patch_namespaced_deployment_scale("scaled", self.namespace, {"spec": {"replicas": 3}})
        self.eventually(
            lambda: apps.read_namespaced_deployment_status("scaled", self.namespace).status.replicas == 3, "3 replicas")
        pods = self.core.list_namespaced_pod(self.namespace, label_selector="app=scaled").items
        self.assertEqual(len(pods), 3)
        condition = {"type": "clients.example/Fine", "status": "True"}
        self.core.patch_namespaced_pod_status(pods[0].metadata.name, self.namespace, {"status": {"conditions": [condition]}})
        read = self.core.read_namespaced_pod_status(pods[0].metadata.name, self.namespace)
        self.assertIn("clients.example/Fine", [c.type for c in read.status.conditions])
        self.assertIn("PodScheduled", [c.type for c in read.status.conditions])
        apps.delete_namespaced_deployment("scaled", self.namespace, propagation_policy="Foreground")
        self.eventually(
            lambda: not self.core.list_namespaced_pod(self.namespace, label_selector="app=scaled").items, "no pods are left")

    def test_pages_of_a_list(self):
        for number in range(25):
            self.configmap(f"page-{number:02}", labels={"paged": "yes"})
        page = lambda **more: self.core.list_namespaced_config_map(
            self.namespace, label_selector="paged=yes", limit=10, **more)
        first = page()
        self.assertEqual(len(first.items), 10)
        self.configmap("page-99", labels={"paged": "yes"})
        self.core.delete_namespaced_config_map("page-24", self.namespace)
        second = page(_continue=first.metadata._continue)
        third = page(_continue=second.metadata._continue)
        self.assertIsNone(third.metadata._continue)
        names = [item.metadata.name for part in (first, second, third) for item in part.items]
        self.assertEqual(names, [f"page-{number:02}" for number in range(25)], "all pages show one revision")
        versions = {part.metadata.resource_version for part in (first, second, third)}
        self.assertEqual(len(versions), 1)
        wrong = self.refused(400, "BadRequest", page, _continue="nonsense")
        self.assertIn("continue key is not valid", wrong["message"])
        exact = self.core.list_namespaced_config_map(
            self.namespace, label_selector="paged=yes", resource_version=first.metadata.resource_version,
            resource_version_match="Exact")
        self.assertEqual(len(exact.items), 25)
        self.assertNotIn("page-99", [item.metadata.name for item in exact.items])

    def test_words_of_errors(self):
        refused = self.refused
        body = refused(404, "NotFound", self.core.read_namespaced_pod, "absent", self.namespace)
        self.assertEqual(body["message"], 'pods "absent" not found')
        self.assertEqual(body["details"], {"name": "absent", "kind": "pods"})
        body = refused(404, "NotFound", self.core.create_namespaced_config_map, "nowhere", {"metadata": {"name": "x"}})
        self.assertEqual(body["message"], 'namespaces "nowhere" not found')
        invalid = m.V1Pod(metadata=m.V1ObjectMeta(name="Bad_Name"), spec=m.V1PodSpec(containers=[]))
        body = refused(422, "Invalid", self.core.create_namespaced_pod, self.namespace, invalid)
        causes = {(cause["field"], cause["reason"]) for cause in body["details"]["causes"]}
        self.assertEqual(causes, {("metadata.name", "FieldValueInvalid"), ("spec.containers", "FieldValueRequired")})
        self.assertTrue(body["message"].startswith('Pod "Bad_Name" is invalid: ['), body["message"])
        body = refused(400, "BadRequest", self.core.list_namespaced_pod, self.namespace, label_selector="a=(")
        self.assertTrue(body["message"].startswith("unable to parse requirement: found '('"), body["message"])
        body = refused(400, "BadRequest", self.core.list_namespaced_pod, self.namespace, field_selector="spec.absent=1")
        self.assertIn("field label not supported: spec.absent", body["message"])
        # The typed calls check these themselves; the untyped ones send them.
        untyped = client.CustomObjectsApi().create_namespaced_custom_object
        def deployment(**spec):
            return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {
                "selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": {
                    "containers": [{"name": "main", "image": "x"}]}}, **spec}}
        of = ("apps", "v1", self.namespace, "deployments")
        body = refused(400, "BadRequest", untyped, *of, deployment(unheardOf=1), field_validation="Strict")
        self.assertIn('strict decoding error: unknown field "spec.unheardOf"', body["message"])
        body = refused(400, "BadRequest", untyped, *of, deployment(replicas="three"))
        self.assertIn("DeploymentSpec.spec.replicas of type int32", body["message"])
        dry = self.core.create_namespaced_config_map(self.namespace, {"metadata": {"generateName": "dry-"}}, dry_run="All")
        self.assertTrue(dry.metadata.name.startswith("dry-"))
        refused(404, "NotFound", self.core.read_namespaced_config_map, dry.metadata.name, self.namespace)
        stale = m.V1DeleteOptions(preconditions=m.V1Preconditions(uid="00000000-0000-0000-0000-000000000000"))
        self.configmap("kept")
        body = refused(409, "Conflict", self.core.delete_namespaced_config_map, "kept", self.namespace, body=stale)
        self.assertIn("Precondition failed: UID in precondition: 00000000", body["message"])

    def test_a_user_without_rights(self):
        api = client.ApiClient()
        api.set_default_header("Impersonate-User", "jane")
        body = self.refused(403, "Forbidden", client.CoreV1Api(api).list_namespaced_secret, self.namespace)
        text = f'secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" in the namespace "{self.namespace}"'
        self.assertEqual(body["message"], text)
        review = m.V1SelfSubjectAccessReview(spec=m.V1SelfSubjectAccessReviewSpec(
            resource_attributes=m.V1ResourceAttributes(verb="list", resource="secrets", namespace=self.namespace)))
        self.assertFalse(client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed)
        rbac = client.RbacAuthorizationV1Api()
        rule = m.V1PolicyRule(api_groups=[""], resources=["secrets"], verbs=["list"])
        rbac.create_namespaced_role(self.namespace, m.V1Role(metadata=m.V1ObjectMeta(name="lists"), rules=[rule]))
        subject = m.RbacV1Subject(kind="User", name="jane", api_group="rbac.authorization.k8s.io")
        rbac.create_namespaced_role_binding(self.namespace, m.V1RoleBinding(
            metadata=m.V1ObjectMeta(name="lists"), subjects=[subject],
            role_ref=ref("Role", "lists")))
        client.CoreV1Api(api).list_namespaced_secret(self.namespace)
        who = client.AuthenticationV1Api(api).create_self_subject_review(m.V1SelfSubjectReview())
        self.assertEqual(who.status.user_info.username, "jane")

    def test_a_token_of_a_service_account(self):
        self.core.create_namespaced_service_account(self.namespace, m.V1ServiceAccount(metadata=m.V1ObjectMeta(name="robot")))
        asked = m.AuthenticationV1TokenRequest(spec=m.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
        token = self.core.create_namespaced_service_account_token("robot", self.namespace, asked).status.token
        settings = client.Configuration.get_default_copy()
        settings.cert_file = settings.key_file = None
        settings.api_key = {"BearerToken": f"Bearer {token}"}
        robot = client.ApiClient(settings)
        who = client.AuthenticationV1Api(robot).create_self_subject_review(m.V1SelfSubjectReview()).status.user_info
        self.assertEqual(who.username, f"system:serviceaccount:{self.namespace}:robot")
        self.refused(403, "Forbidden", client.CoreV1Api(robot).list_namespaced_pod, self.namespace)
        settings.api_key = {"BearerToken": "Bearer nonsense"}
        self.refused(401, "Unauthorized", client.CoreV1Api(client.ApiClient(settings)).list_namespaced_pod, self.namespace)

    def test_manifests_from_yaml(self):
        text = f"""
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {{name: from-yaml-1}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {{name: from-yaml-2}}
  spec:
    replicas: 0
    selector: {{matchLabels: {{app: y}}}}
    template:
      metadata: {{labels: {{app: y}}}}
      spec: {{containers: [{{name: main, image: 'stead.local/demo:1'}}]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: from-yaml-3}}
rules: []
"""
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "all.yaml")
            with open(file, "w") as out:
                out.write(text)
            api = client.ApiClient()
            utils.create_from_yaml(api, file, namespace=self.namespace)
            with self.assertRaises(utils.FailToCreateError) as caught:
                utils.create_from_yaml(api, file, namespace=self.namespace)
            self.assertEqual([error.reason for error in caught.exception.api_exceptions], ["Conflict"] * len(caught.exception.api_exceptions))
            utils.create_from_yaml(api, file, namespace=self.namespace, apply=True)
        self.core.read_namespaced_config_map("from-yaml-1", self.namespace)
        client.AppsV1Api().read_namespaced_deployment("from-yaml-2", self.namespace)
        client.RbacAuthorizationV1Api().read_namespaced_role("from-yaml-3", self.namespace)

    def test_what_there_is(self):
        groups = {group.name for group in client.ApisApi().get_api_versions().groups}
        self.assertLessEqual({"apps", "batch", "coordination.k8s.io", "apiextensions.k8s.io"}, groups)
        names = {resource.name for resource in client.AppsV1Api().get_api_resources().resources}
        self.assertLessEqual({"statefulsets", "statefulsets/scale", "statefulsets/status"}, names)
        version = client.VersionApi().get_code()
        self.assertEqual((version.major, version.minor), ("1", "36"))


if __name__ == "__main__":
    unittest.main()
