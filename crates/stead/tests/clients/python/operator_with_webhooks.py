"""An operator written with kopf that judges and changes what users write, by admission webhooks it registers itself."""

import os

import kopf


@kopf.on.startup()
def settle(settings: kopf.OperatorSettings, **_):
    certificate, key = os.environ["CERTIFICATE"], os.environ["KEY"]
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1", certfile=certificate, pkeyfile=key, cafile=certificate)
    settings.admission.managed = "shops.clients.example"


@kopf.on.mutate("shops", operations=["CREATE"])
def name_the_street(body, patch, userinfo, **_):
    patch.metadata.labels["street"] = "high"
    patch.metadata.annotations["opened-by"] = userinfo["username"]


@kopf.on.validate("shops", operations=["CREATE", "UPDATE"])
def judge(spec, warnings, dryrun, **_):
    if spec["shelves"] < 0:
        raise kopf.AdmissionError("shelves hang on walls", code=422)
    if spec["shelves"] > 9:
        warnings.append("that is a warehouse")


@kopf.on.validate("shops", operations=["DELETE"])
def keep(name, body, **_):
    if name == "kept":
        raise kopf.AdmissionError("this shop is listed", code=403)
