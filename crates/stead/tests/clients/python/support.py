"""What the tests share: a namespace for each class of tests, and waiting for something with a deadline."""

import json
import time
import unittest

from kubernetes import client, config


class Case(unittest.TestCase):
    """Tests in a namespace of their own, which goes with them."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        config.load_kube_config()
        cls.core = client.CoreV1Api()
        name = cls.__name__.lower()
        cls.namespace = cls.core.create_namespace({"metadata": {"name": name}}).metadata.name

    @classmethod
    def tearDownClass(cls):
        cls.core.delete_namespace(cls.namespace, grace_period_seconds=0)

    def refused(self, status, reason, call, *arguments, **named):
        """The body of the error that a call must fail with."""
        with self.assertRaises(client.ApiException) as caught:
            call(*arguments, **named)
        error = caught.exception
        body = json.loads(error.body)
        self.assertEqual((error.status, body["code"], body.get("reason", "")), (status, status, reason), error.body)
        self.assertEqual((body["kind"], body["apiVersion"], body["status"]), ("Status", "v1", "Failure"))
        self.assertEqual(error.headers["Content-Type"], "application/json")
        return body

    def eventually(self, holds, what, seconds=60):
        """What a condition answers once it holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = holds()
            if answer:
                return answer
            time.sleep(0.05)
        self.fail(f"not within {seconds} s: {what}")

    def configmap(self, name, data=None, **metadata):
        body = {"metadata": {"name": name, **metadata}, "data": data or {}}
        return self.core.create_namespaced_config_map(self.namespace, body)
