// @kubernetes/client-node: typed calls, errors, informers, watches, commands, ports and logs.

import assert from 'node:assert/strict';
import net from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const namespace = 'node';

before(async () => {
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    const container = (name, command) => ({ name, image: 'test/busybox:1', command: ['sh', '-c', command] });
    const answer = "while true; do nc -l -p 7000 -e sh -c 'read a; echo $a | tr a-z A-Z'; done";
    const containers = [container('says', 'i=0; while true; do echo line $i; i=$((i+1)); sleep 0.2; done'), container('answers', answer)];
    await core.createNamespacedPod({ namespace, body: { metadata: { name: 'p' }, spec: { terminationGracePeriodSeconds: 0, containers } } });
});

after(() => core.deleteNamespace({ name: namespace }));

async function eventually(what, holds, seconds = 30) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const answer = await holds();
        if (answer) return answer;
        assert.ok(Date.now() < end, `not within ${seconds} s: ${what}`);
        await new Promise((wake) => setTimeout(wake, 50));
    }
}

async function refused(code, reason, call) {
    const error = await call.then(() => assert.fail('it was not refused'), (error) => error);
    const body = JSON.parse(error.body);
    assert.deepEqual([error.code, body.code, body.reason, body.kind], [code, code, reason, 'Status'], error.body);
    return body.message;
}

const map = (name, labels = {}) => ({ metadata: { name, labels }, data: { a: '1' } });
const put = (name, labels) => core.createNamespacedConfigMap({ namespace, body: map(name, labels) });
const patch = (name, body, strategy) =>
    core.patchNamespacedConfigMap({ name, namespace, body }, k8s.setHeaderOptions('Content-Type', strategy));

test('objects live and die', async () => {
    const made = await put('lives');
    assert.ok(made.metadata.creationTimestamp instanceof Date);
    const read = await core.readNamespacedConfigMap({ name: 'lives', namespace });
    const stale = structuredClone(read.metadata.resourceVersion);
    read.data.a = '2';
    const replaced = await core.replaceNamespacedConfigMap({ name: 'lives', namespace, body: read });
    assert.equal(replaced.data.a, '2');
    read.metadata.resourceVersion = stale;
    assert.match(await refused(409, 'Conflict', core.replaceNamespacedConfigMap({ name: 'lives', namespace, body: read })), /has been modified/);
    assert.match(await refused(409, 'AlreadyExists', put('lives')), /configmaps "lives" already exists/);
    const status = await core.deleteNamespacedConfigMap({ name: 'lives', namespace });
    assert.deepEqual([status.kind, status.status], ['Status', 'Success']);
    assert.equal(await refused(404, 'NotFound', core.readNamespacedConfigMap({ name: 'lives', namespace })), 'configmaps "lives" not found');
    assert.match(await refused(422, 'Invalid', put('Bad_Name')), /Invalid value: "Bad_Name"/);
    await refused(404, 'NotFound', core.createNamespacedConfigMap({ namespace: 'nowhere', body: map('x') }));
});

test('workloads keep their types', async () => {
    const labels = { app: 'web' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'main', image: 'stead.local/demo:1' }] } };
    const rollingUpdate = { maxSurge: '50%', maxUnavailable: 1 };
    const body = { metadata: { name: 'web' }, spec: { replicas: 0, selector: { matchLabels: labels }, template, strategy: { rollingUpdate } } };
    const made = await apps.createNamespacedDeployment({ namespace, body });
    assert.deepEqual({ ...made.spec.strategy.rollingUpdate }, rollingUpdate);
    const scale = await apps.readNamespacedDeploymentScale({ name: 'web', namespace });
    assert.deepEqual([scale.spec.replicas ?? 0, scale.status.selector], [0, 'app=web']);
    const objects = k8s.KubernetesObjectApi.makeApiClient(config);
    const set = { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { name: 'set', namespace } };
    await objects.create({ ...set, spec: { replicas: 0, serviceName: 'set', selector: { matchLabels: labels }, template } });
    const applied = await objects.patch(
        { ...set, spec: { minReadySeconds: 3 } }, undefined, undefined, 'tests', true, k8s.PatchStrategy.ServerSideApply);
    assert.equal(applied.spec.minReadySeconds, 3);
    assert.ok(applied.metadata.managedFields.some((entry) => entry.manager === 'tests' && entry.operation === 'Apply'));
    const sets = await objects.list('apps/v1', 'StatefulSet', namespace);
    assert.deepEqual(sets.items.map((item) => item.metadata.name), ['set']);
    await objects.delete(set);
    await apps.deleteNamespacedDeployment({ name: 'web', namespace });
});

test('every kind of patch', async () => {
    await put('patched');
    const merged = await patch('patched', { data: { b: '2' } }, k8s.PatchStrategy.MergePatch);
    assert.deepEqual(merged.data, { a: '1', b: '2' });
    const strategic = await patch('patched', { data: { a: null } }, k8s.PatchStrategy.StrategicMergePatch);
    assert.deepEqual(strategic.data, { b: '2' });
    const changed = await patch('patched', [{ op: 'replace', path: '/data/b', value: '3' }], k8s.PatchStrategy.JsonPatch);
    assert.deepEqual(changed.data, { b: '3' });
    await refused(422, 'Invalid', patch('patched', [{ op: 'test', path: '/data/b', value: 'x' }], k8s.PatchStrategy.JsonPatch));
});

test('pages of a list', async () => {
    for (let number = 0; number < 7; number++) await put(`page-${number}`, { paged: 'yes' });
    const names = [];
    let _continue;
    do {
        const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'paged=yes', limit: 3, _continue });
        names.push(...page.items.map((item) => item.metadata.name));
        _continue = page.metadata._continue;
    } while (_continue);
    assert.deepEqual(names, [0, 1, 2, 3, 4, 5, 6].map((number) => `page-${number}`));
});

test('a watch tells, bookmarks and ends', async () => {
    const { metadata } = await core.listNamespacedConfigMap({ namespace });
    const told = [];
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const query = { resourceVersion: metadata.resourceVersion, labelSelector: 'of=watch', timeoutSeconds: 2 };
    const ended = new Promise((done) => {
        new k8s.Watch(config).watch(path, query, (type, object) => told.push(`${type} ${object.metadata.name}`), done);
    });
    await put('watched', { of: 'watch' });
    await patch('watched', { data: { a: '2' } }, k8s.PatchStrategy.MergePatch);
    await core.deleteNamespacedConfigMap({ name: 'watched', namespace });
    const error = await ended;
    assert.ok(!error, `the server ends it in order: ${error}`);
    assert.deepEqual(told, ['ADDED watched', 'MODIFIED watched', 'DELETED watched']);
});

test('an informer goes on after its watch has ended', async () => {
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'of=informer' });
    const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, 'of=informer');
    const told = [];
    for (const verb of ['add', 'update', 'delete']) informer.on(verb, (object) => told.push(`${verb} ${object.metadata.name}`));
    let connected = 0;
    informer.on('connect', () => connected++);
    let wanted = true;
    informer.on('error', () => wanted && setTimeout(() => informer.start(), 50));
    await put('i-1', { of: 'informer' });
    await informer.start();
    await eventually('what was there is told', () => told.includes('add i-1'));
    await put('i-2', { of: 'informer' });
    await eventually('what is new is told', () => told.includes('add i-2'));
    wanted = false;
    await informer.stop();
    await core.deleteNamespacedConfigMap({ name: 'i-1', namespace });
    await patch('i-2', { data: { a: '2' } }, k8s.PatchStrategy.MergePatch);
    await informer.start();
    await eventually('what happened meanwhile is told', () => told.includes('delete i-1') && told.includes('update i-2'));
    await put('i-3', { of: 'informer' });
    await eventually('it goes on', () => told.includes('add i-3'));
    assert.deepEqual(informer.list().map((item) => item.metadata.name).sort(), ['i-2', 'i-3']);
    assert.equal(informer.get('i-2', namespace).data.a, '2');
    assert.ok(connected >= 2);
    await informer.stop();
});

test('a lease is held by one', async () => {
    const coordination = config.makeApiClient(k8s.CoordinationV1Api);
    const renewTime = new k8s.V1MicroTime('2026-01-02T03:04:05.678Z');
    const body = { metadata: { name: 'held' }, spec: { holderIdentity: 'one', leaseDurationSeconds: 5, renewTime } };
    const made = await coordination.createNamespacedLease({ namespace, body });
    assert.equal(new Date(made.spec.renewTime).getTime(), renewTime.getTime());
    const [one, two] = [structuredClone(made.metadata.resourceVersion), made];
    two.spec.holderIdentity = 'two';
    await coordination.replaceNamespacedLease({ name: 'held', namespace, body: two });
    const late = { ...body, metadata: { name: 'held', resourceVersion: one } };
    await refused(409, 'Conflict', coordination.replaceNamespacedLease({ name: 'held', namespace, body: late }));
});

const running = () => eventually('the pod runs', async () => {
    const pod = await core.readNamespacedPod({ name: 'p', namespace });
    return pod.status.phase === 'Running' && pod.status.containerStatuses.every((one) => one.ready);
});

function collect() {
    const chunks = [];
    const stream = new Writable({ write: (chunk, _, done) => { chunks.push(chunk); done(); } });
    return { stream, text: () => Buffer.concat(chunks).toString() };
}

async function run(command, input = null, tty = false) {
    const [out, err] = [collect(), collect()];
    const status = await new Promise((done, fail) => {
        new k8s.Exec(config).exec(namespace, 'p', 'says', command, out.stream, err.stream, input, tty, done).catch(fail);
    });
    await eventually('what it said has come', () => true);
    return { status, out, err };
}

test('commands', async () => {
    await running();
    const said = await run(['sh', '-c', 'echo out; echo err >&2']);
    assert.equal(said.status.status, 'Success');
    await eventually('both streams have come', () => said.out.text() === 'out\n' && said.err.text() === 'err\n');
    const failed = await run(['sh', '-c', 'exit 9']);
    assert.deepEqual([failed.status.status, failed.status.reason], ['Failure', 'NonZeroExitCode']);
    assert.deepEqual(failed.status.details.causes, [{ reason: 'ExitCode', message: '9' }]);
    const fed = await run(['head', '-n', '2'], Readable.from(['a\n', 'b\n']));
    await eventually('what was fed comes back', () => fed.out.text() === 'a\nb\n');
    const terminal = await run(['tty'], new PassThrough(), true);
    await eventually('a terminal is one', () => terminal.out.text().startsWith('/dev/pts/'));
    const absent = await run(['/absent']);
    assert.equal(absent.status.status, 'Failure');
});

test('a port', async () => {
    await running();
    const forward = new k8s.PortForward(config);
    const open = [];
    const server = net.createServer((socket) => open.push(forward.portForward(namespace, 'p', [7000], socket, null, socket)));
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    const socket = net.connect(server.address().port, '127.0.0.1');
    const said = collect();
    socket.pipe(said.stream);
    socket.write('hello\n');
    await eventually('the answer comes', () => said.text() === 'HELLO\n');
    socket.destroy();
    server.close();
    for (const session of await Promise.all(open)) session.close();
});

test('logs', async () => {
    await running();
    const text = await eventually('three lines are said', async () => {
        const text = await core.readNamespacedPodLog({ name: 'p', namespace, container: 'says' });
        return text.includes('line 2\n') && text;
    });
    assert.ok(text.startsWith('line 0\nline 1\n'));
    const followed = collect();
    const end = await new k8s.Log(config).log(namespace, 'p', 'says', followed.stream, { follow: true, tailLines: 1 });
    await eventually('lines are followed', () => followed.text().split('\n').length > 3);
    end.abort();
    assert.match(
        await refused(400, 'BadRequest', core.readNamespacedPodLog({ name: 'p', namespace })),
        /a container name must be specified for pod p, choose one of: \[says answers\]/);
});
