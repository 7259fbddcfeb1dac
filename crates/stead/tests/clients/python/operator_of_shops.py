"""An operator written with kopf: a Shop gets a ConfigMap for each shelf and says what it has done in its status.

Its handlers may run more than once, so they accept what is there already.
"""

import kopf
from kubernetes import client, config

config.load_kube_config()


@kopf.on.startup()
def settle(settings: kopf.OperatorSettings, **_):
    settings.posting.loggers = True
    settings.persistence.finalizer = "clients.example/shop"
    settings.watching.server_timeout = 5


def put(namespace, body):
    try:
        client.CoreV1Api().create_namespaced_config_map(namespace, body)
    except client.ApiException as error:
        if error.status != 409:
            raise


def note(namespace, name):
    put(namespace, {"metadata": {"name": name}})


def shelves(spec, name, namespace, body):
    for number in range(spec["shelves"]):
        shelf = {"metadata": {"name": f"{name}-{number}", "labels": {"shop": name}}}
        kopf.adopt(shelf, owner=body)
        put(namespace, shelf)
    return spec["shelves"]


@kopf.on.create("shops")
def created(spec, name, namespace, body, patch, **_):
    if spec["shelves"] > 100:
        raise kopf.PermanentError("nobody needs so many shelves")
    patch.status["opened"] = True
    kopf.info(body, reason="Opened", message=f"{name} is open")
    return {"shelves": shelves(spec, name, namespace, body)}


@kopf.on.update("shops", field="spec.shelves")
def updated(old, new, spec, name, namespace, body, patch, retry, **_):
    if retry == 0:
        raise kopf.TemporaryError("once more", delay=0.2)
    shelves(spec, name, namespace, body)
    patch.status["change"] = f"{old} to {new}"


@kopf.on.resume("shops")
def resumed(patch, status, **_):
    patch.status["resumed"] = status.get("resumed", 0) + 1


@kopf.on.delete("shops")
def deleted(name, namespace, **_):
    note(namespace, f"{name}-closed")


@kopf.timer("shops", interval=0.5)
def ticks(patch, status, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.daemon("shops", cancellation_timeout=2)
def minds(stopped, name, namespace, **_):
    note(namespace, f"{name}-minded")
    stopped.wait(3600)


@kopf.on.event("", "v1", "configmaps", labels={"shop": kopf.PRESENT})
def shelf_changed(event, name, namespace, **_):
    if event["type"] == "DELETED":
        note(namespace, f"{name}-missed")
