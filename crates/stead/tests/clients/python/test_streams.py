"""Commands, terminals, ports and logs of a running container."""

import base64
import json
import unittest

from kubernetes import client, watch
from kubernetes.stream import portforward, stream
from kubernetes.stream.ws_client import ERROR_CHANNEL
from support import Case
from websocket import create_connection

SAY = "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.2; done"
# Answers each connection with what it was sent, in capitals.
ANSWER = "while true; do nc -l -p 7000 -e sh -c 'read a; echo $a | tr a-z A-Z'; done"


class Streams(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        def container(name, command, **more):
            return {"name": name, "image": "test/busybox:1", "command": ["sh", "-c", command], **more}
        containers = [container("says", SAY), container("answers", ANSWER), container("reads", "cat", stdin=True)]
        body = {"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": containers}}
        cls.core.create_namespaced_pod(cls.namespace, body)

    def setUp(self):
        read = lambda: self.core.read_namespaced_pod("p", self.namespace).status
        self.eventually(
            lambda: read().phase == "Running" and all(one.ready for one in read().container_statuses), "the pod runs")

    def exec(self, command, **more):
        settings = {"stdin": False, "stdout": True, "stderr": True, "tty": False, "container": "says", **more}
        return stream(self.core.connect_get_namespaced_pod_exec, "p", self.namespace, command=command, **settings)

    def test_a_command_prints(self):
        self.assertEqual(self.exec(["echo", "hello  there"]), "hello  there\n")
        both = self.exec(["sh", "-c", "echo out; echo err >&2"])
        self.assertEqual(sorted(both.split()), ["err", "out"])

    def test_a_command_is_fed_and_ends_with_a_code(self):
        session = self.exec(["sh", "-c", "read a; echo got $a; echo bad >&2; read b; exit 7"], stdin=True, _preload_content=False)
        session.write_stdin("food\n")
        self.assertEqual(session.readline_stdout(timeout=10), "got food")
        self.assertEqual(session.readline_stderr(timeout=10), "bad")
        session.write_stdin("enough\n")
        session.run_forever(timeout=10)
        self.assertEqual(session.returncode, 7)
        session = self.exec(["true"], _preload_content=False)
        session.run_forever(timeout=10)
        status = json.loads(session.read_channel(ERROR_CHANNEL))
        self.assertEqual(status["status"], "Success")

    def websocket(self, path, *subprotocols):
        settings = client.Configuration.get_default_copy()
        proof = {"ca_certs": settings.ssl_ca_cert, "certfile": settings.cert_file, "keyfile": settings.key_file}
        url = settings.host.replace("https://", "wss://") + path
        return create_connection(url, sslopt=proof, subprotocols=list(subprotocols), timeout=20)

    def test_a_watch_and_a_log_come_as_messages(self):
        names = f"/api/v1/namespaces/{self.namespace}/configmaps"
        revision = self.core.list_namespaced_config_map(self.namespace).metadata.resource_version
        events = self.websocket(f"{names}?watch=1&resourceVersion={revision}&fieldSelector=metadata.name%3Dtold")
        self.core.create_namespaced_config_map(self.namespace, {"metadata": {"name": "told"}, "data": {"a": "1"}})
        self.core.delete_namespaced_config_map("told", self.namespace)
        told = [json.loads(events.recv()) for _ in range(2)]
        self.assertEqual([event["type"] for event in told], ["ADDED", "DELETED"])
        events.close()
        log = self.websocket(
            f"/api/v1/namespaces/{self.namespace}/pods/p/log?container=says&follow=1&tailLines=1", "base64.binary.k8s.io")
        self.assertIn("line ", base64.b64decode(log.recv()).decode())
        log.close()

    def test_bytes_come_whole(self):
        session = self.exec(["head", "-c", "3000000", "/dev/zero"], binary=True, _preload_content=False)
        session.run_forever(timeout=30)
        self.assertEqual(len(session.read_stdout()), 3000000)

    def test_a_terminal(self):
        said = self.exec(["sh", "-c", "tty; stty size"], tty=True, stdin=True)
        self.assertIn("/dev/pts/", said)

    def test_commands_that_cannot_be(self):
        with self.assertRaises(client.ApiException) as caught:
            self.exec(["true"], container="absent")
        self.assertIn("container absent is not valid for pod p", str(caught.exception))
        with self.assertRaises(client.ApiException) as caught:
            stream(self.core.connect_get_namespaced_pod_exec, "absent", self.namespace, command=["true"])
        self.assertIn("404", str(caught.exception.reason))
        session = self.exec(["/absent"], _preload_content=False)
        session.run_forever(timeout=10)
        status = json.loads(session.read_channel(ERROR_CHANNEL))
        self.assertEqual(status["status"], "Failure")

    def test_attaching(self):
        session = stream(
            self.core.connect_get_namespaced_pod_attach, "p", self.namespace, container="reads",
            stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False)
        session.write_stdin("come back\n")
        self.assertEqual(session.readline_stdout(timeout=10), "come back")
        session.close()

    def forward(self, port):
        ports = portforward(self.core.connect_get_namespaced_pod_portforward, "p", self.namespace, ports=str(port))
        connection = ports.socket(port)
        self.addCleanup(connection.close)
        connection.settimeout(10)
        return ports, connection

    def test_a_port(self):
        ports, connection = self.forward(7000)
        connection.sendall(b"hello\n")
        said = b""
        while not said.endswith(b"\n"):
            said += connection.recv(100)
        self.assertEqual(said, b"HELLO\n")
        self.assertIsNone(ports.error(7000))

    def test_a_port_where_nobody_listens(self):
        ports, _ = self.forward(7999)
        self.eventually(lambda: ports.error(7999), "the error is told", 10)
        self.assertIn("7999", ports.error(7999))

    def test_logs(self):
        read = lambda **more: self.core.read_namespaced_pod_log("p", self.namespace, container="says", **more)
        self.eventually(lambda: "line 3\n" in read(), "four lines are said")
        self.assertTrue(read().startswith("line 0\nline 1\n"))
        self.assertEqual(read(limit_bytes=6), "line 0")
        last = read(tail_lines=2).splitlines()
        self.assertEqual(len(last), 2)
        stamp, line = read(timestamps=True).splitlines()[0].split(" ", 1)
        self.assertEqual((line, stamp[-1], stamp[10]), ("line 0", "Z", "T"))
        seen, place = [], watch.Watch()
        for line in place.stream(self.core.read_namespaced_pod_log, "p", self.namespace, container="says", tail_lines=1):
            seen.append(int(line.split()[1]))
            if len(seen) == 4:
                place.stop()
        self.assertEqual(seen, list(range(seen[0], seen[0] + 4)), "what is followed comes in order")
        body = self.refused(400, "BadRequest", self.core.read_namespaced_pod_log, "p", self.namespace)
        self.assertEqual(
            body["message"], "a container name must be specified for pod p, choose one of: [says answers reads]")
        body = self.refused(400, "BadRequest", read, previous=True)
        self.assertIn('previous terminated container "says" in pod "p" not found', body["message"])

    def test_an_eviction(self):
        body = {"metadata": {"name": "evicted"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "test/busybox:1", "command": ["sleep", "3600"]}]}}
        self.core.create_namespaced_pod(self.namespace, body)
        self.core.create_namespaced_pod_eviction("evicted", self.namespace, {"metadata": {"name": "evicted"}})
        def gone():
            try:
                self.core.read_namespaced_pod("evicted", self.namespace)
            except client.ApiException as error:
                return error.status == 404
        self.eventually(gone, "the pod is gone")


if __name__ == "__main__":
    unittest.main()
