//! The Python client with its own operations, and operators written with kopf.

use crate::cluster::Cluster;
use crate::{images, install};

/// The client's own operations (`python/test_*.py`), each file of tests beside the others.
#[test]
fn the_python_client_notices_no_difference() {
    let cluster = Cluster::up("python");
    images::load(&cluster, &images::busybox("test/busybox:1"));
    let python = install::python();
    let modules = ["test_objects", "test_watch", "test_patch", "test_streams", "test_kopf"];
    std::thread::scope(|scope| {
        let (cluster, python) = (&cluster, &python);
        let running = modules.map(|module| (module, scope.spawn(move || tests(cluster, python, module))));
        let failed = running.map(|(module, run)| (module, run.join().expect("no panic")));
        for (module, outcome) in failed {
            assert_eq!(outcome.code, 0, "{module}: {outcome}");
            // The unittest module tells on standard error how many tests it ran: none is a mistake.
            assert!(outcome.err.contains("\nOK") && !outcome.err.contains("Ran 0 tests"), "{module}: {outcome}");
        }
    });
}

fn tests(cluster: &Cluster, python: &std::path::Path, module: &str) -> crate::cluster::Outcome {
    cluster.sh(&format!(
        "cd {} && PYTHONDONTWRITEBYTECODE=1 {} -W ignore -m unittest -v {module}",
        install::sources("python").display(),
        python.display()
    ))
}
