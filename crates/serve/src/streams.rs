//! What goes to containers and comes from them: exec, attach, port-forward and logs.
//!
//! The API server's decision (may they, which pod, which container) comes from the head; the bytes go between the client's
//! connection and the node's machine. Rules: behaviour rows K-06 to K-09.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use stead_api::{Remarks, Request, Status, Verb};
use stead_apiserver::{LogQuery, Reply, StreamPlan};
use stead_host::{ExecRequest, Host, Streams as HostStreams};
use stead_node::action::ContainerRef;
use stead_stream::handshake::{self, PortForwardProtocol, RemoteCommandProtocol};
use stead_stream::log_follow::{LogFollow, LogOptions, LogStream};
use stead_stream::{
    Descriptor, Duplex, ForwardedConnection, Input, Options, Outcome, Output, PortForward, RemoteCommand, Resizes,
    Streams,
};
use tokio::io::{AsyncWriteExt, copy, copy_bidirectional};
use tokio::sync::mpsc;

use crate::Server;
use crate::messages::refused;
use crate::out::Out;

mod ends;

pub use ends::Ends;

/// Chunks of a log on their way to a client.
const LOG_CHUNKS_MAX: usize = 4;

/// Whether a request wants its connection for itself.
pub fn is_upgrade(request: &Request) -> bool {
    request.verb == Verb::Connect
}

/// Serves exec, attach and port-forward: checks, answers 101 and goes on in a task of its own.
pub async fn upgrade(
    server: &Arc<Server>,
    request: &Request,
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
    remarks: &mut Remarks,
) -> Result<Response<Out>, Status> {
    let (reply, notes) = crate::webhooks::read(server, &server.plane.head(), request).await.split();
    remarks.notes = notes;
    let plan = match reply {
        Reply::Stream(mut plan) => {
            remarks.warnings = std::mem::take(&mut plan.warnings);
            *plan
        }
        Reply::Failure { status, warnings } => {
            remarks.warnings = warnings;
            return Err(*status);
        }
        _ => return Err(Status::no_such_path()),
    };
    let upgrade = upgrade.ok_or_else(|| Status::bad_request("unable to upgrade: the connection cannot be upgraded"))?;
    let host = host_of(server, &plan)?;
    match plan.resource.subresource.as_str() {
        "portforward" => {
            let accepted = handshake::port_forward(headers).map_err(refused)?;
            let ports = match accepted.protocol {
                PortForwardProtocol::WebSocket { .. } => ports_of(&plan.request)?,
                PortForwardProtocol::Spdy | PortForwardProtocol::SpdyInWebSocket => Vec::new(),
            };
            tokio::spawn(forward(host, plan, upgrade, accepted.protocol, ports));
            Ok(switching(accepted.headers))
        }
        subresource @ ("exec" | "attach") => {
            let is_exec = subresource == "exec";
            let container = running(&host, &plan)?;
            let streams = streams_of(&plan.request);
            streams.checked().map_err(|error| Status::bad_request(error.to_string()))?;
            let command: Vec<String> = plan.request.options.params("command").map(str::to_owned).collect();
            if is_exec && command.is_empty() {
                return Err(Status::bad_request("you must specify at least one command for the container"));
            }
            let accepted = handshake::remote_command(headers).map_err(refused)?;
            let session = Session { host, container, streams, command: is_exec.then_some(command) };
            tokio::spawn(session.run(upgrade, accepted.protocol));
            Ok(switching(accepted.headers))
        }
        _ => Err(Status::no_such_path()),
    }
}

fn host_of(server: &Server, plan: &StreamPlan) -> Result<Arc<Host>, Status> {
    let host = server.hosts.get().and_then(|hosts| hosts.get(&plan.node)).cloned();
    host.ok_or_else(|| Status::internal(format!("node {} runs no containers that can be reached", plan.node)))
}

/// The attempt that is meant: the running one, else the last.
fn current(host: &Host, plan: &StreamPlan) -> Option<ContainerRef> {
    host.current(&plan.pod_uid, &plan.container)
}

fn running(host: &Host, plan: &StreamPlan) -> Result<ContainerRef, Status> {
    let found = current(host, plan).filter(|container| !host.has_ended(container));
    found.ok_or_else(|| {
        Status::internal(format!(
            "container not found (\"{}\") or not running in pod {}",
            plan.container, plan.resource.name
        ))
    })
}

fn streams_of(request: &Request) -> Streams {
    let is = |name: &str| request.options.param(name).is_some_and(|v| v == "true" || v == "1");
    Streams { stdin: is("stdin"), stdout: is("stdout"), stderr: is("stderr"), tty: is("tty") }
}

/// The ports that a request names: `ports=80,443`, or several times.
fn ports_of(request: &Request) -> Result<Vec<u16>, Status> {
    let given = request.options.params("ports").chain(request.options.params("port"));
    let number = |text: &str| {
        let wrong = || Status::bad_request(format!("unable to parse \"{text}\" as a port"));
        text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)
    };
    let ports: Vec<u16> = given.flat_map(|list| list.split(',')).map(number).collect::<Result<_, _>>()?;
    match ports.is_empty() {
        true => Err(Status::bad_request("query parameter \"ports\" is required")),
        false => Ok(ports),
    }
}

fn switching(headers: HeaderMap) -> Response<Out> {
    let mut response = Response::new(Out::pieces(Vec::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// An exec (with a command) or an attach.
struct Session {
    host: Arc<Host>,
    container: ContainerRef,
    streams: Streams,
    command: Option<Vec<String>>,
}

impl Session {
    async fn run(self, upgrade: OnUpgrade, protocol: RemoteCommandProtocol) {
        let Ok(socket) = upgrade.await else { return };
        let started = RemoteCommand::start(TokioIo::new(socket), protocol, self.streams, &Options::default()).await;
        let Ok(mut client) = started else { return };
        let outcome = match self.command.clone() {
            Some(command) => self.exec(&mut client, command).await,
            None => self.attach(&mut client).await,
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed { message: error.to_string() });
        let _ = client.finish(&outcome).await;
    }

    async fn exec(&self, client: &mut RemoteCommand, command: Vec<String>) -> io::Result<Outcome> {
        let request =
            ExecRequest { command: command.clone(), tty: self.streams.tty, stdin: self.streams.stdin, timeout: None };
        let (host, container) = (Arc::clone(&self.host), self.container.clone());
        let mut exec = blocking(move || host.exec(&container, &request)).await?;
        let streams = exec.take_streams();
        if let (Some(resizes), Some(terminal)) = (client.resizes.take(), exec.terminal()?) {
            tokio::spawn(follow_sizes(resizes, move |width, height| {
                stead_host::resize_terminal(&terminal, width, height).is_ok()
            }));
        }
        carry(client, streams).await;
        let code = blocking(move || exec.wait()).await?;
        Ok(if code == 0 { Outcome::Success } else { Outcome::Exited { code, command } })
    }

    async fn attach(&self, client: &mut RemoteCommand) -> io::Result<Outcome> {
        let (host, container, wanted) = (Arc::clone(&self.host), self.container.clone(), self.streams);
        let mut attach = blocking(move || host.attach(&container, wanted.stdin, wanted.stdout, wanted.stderr)).await?;
        let streams = std::mem::replace(&mut attach.streams, HostStreams { stdin: None, stdout: None, stderr: None });
        if let Some(resizes) = client.resizes.take() {
            let control = std::sync::Mutex::new(attach);
            tokio::spawn(follow_sizes(resizes, move |width, height| {
                control.lock().is_ok_and(|mut control| control.resize(width, height).is_ok())
            }));
        }
        let mut gone = client.client_gone();
        let carried = async {
            carry(client, streams).await;
        };
        tokio::select! {
            () = carried => {}
            () = gone.wait() => {}
        }
        Ok(Outcome::Success)
    }
}

/// Copies between the client's streams and the process's until the process's outputs end.
async fn carry(client: &mut RemoteCommand, streams: HostStreams) {
    let input = match (client.stdin.take(), streams.stdin) {
        (Some(from), Some(to)) => Some(tokio::spawn(feed(from, to))),
        _ => None,
    };
    tokio::join!(drain(streams.stdout, client.stdout.take()), drain(streams.stderr, client.stderr.take()));
    if let Some(input) = input {
        input.abort();
    }
}

async fn feed(mut from: Input, to: OwnedFd) {
    if let Ok(mut to) = Descriptor::new(to) {
        let _ = copy(&mut from, &mut to).await;
    }
}

async fn drain(from: Option<OwnedFd>, to: Option<Output>) {
    let (Some(from), Some(mut to)) = (from, to) else { return };
    if let Ok(mut from) = Descriptor::new(from) {
        let _ = copy(&mut from, &mut to).await;
    }
    let _ = to.shutdown().await;
}

async fn follow_sizes(mut sizes: Resizes, set: impl Fn(u16, u16) -> bool) {
    while let Some(size) = sizes.next().await {
        if !set(size.width, size.height) {
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Carries forwarded connections into the pod until the client is gone.
async fn forward(
    host: Arc<Host>,
    plan: StreamPlan,
    upgrade: OnUpgrade,
    protocol: PortForwardProtocol,
    ports: Vec<u16>,
) {
    let Ok(socket) = upgrade.await else { return };
    let mut session = PortForward::start(TokioIo::new(socket), protocol, &ports, &Options::default());
    while let Some(connection) = session.next().await {
        tokio::spawn(forward_one(Arc::clone(&host), plan.pod_uid.clone(), connection));
    }
}

async fn forward_one(host: Arc<Host>, uid: String, connection: ForwardedConnection) {
    // What is left of it tells the session, at the end of this function, that the connection is over.
    let ForwardedConnection { port, stream, error, half_closes, .. } = connection;
    let pod = uid.clone();
    let dialled = blocking(move || {
        let stream = host.dial(&pod, port)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    let connected = match dialled.await {
        Ok(stream) => tokio::net::TcpStream::from_std(stream),
        Err(error) => Err(error),
    };
    match connected {
        Ok(pod_side) if !half_closes => until_the_pod_ends(stream, pod_side).await,
        Ok(mut pod_side) => {
            let mut client_side: Duplex = stream;
            let _ = copy_bidirectional(&mut client_side, &mut pod_side).await;
        }
        Err(why) => {
            error.report(&format!("error forwarding port {port} to pod {uid}, uid : {why}")).await;
        }
    }
}

/// For clients that cannot be told that the pod sends no more: then all is over.
async fn until_the_pod_ends(client: Duplex, mut pod: tokio::net::TcpStream) {
    let Duplex { mut input, mut output } = client;
    let (mut from_pod, mut to_pod) = pod.split();
    let sending = async {
        let _ = copy(&mut input, &mut to_pod).await;
        let _ = to_pod.shutdown().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = copy(&mut from_pod, &mut output) => {}
        () = sending => {}
    }
}

/// Serves a log.
pub async fn read(server: &Arc<Server>, plan: StreamPlan) -> Result<Response<Out>, Status> {
    if plan.resource.subresource != "log" {
        return Err(Status::no_such_path());
    }
    let host = host_of(server, &plan)?;
    let query = LogQuery::of(&plan.request)?;
    let options = LogOptions {
        follow: query.follow,
        timestamps: query.timestamps,
        tail_lines: query.tail_lines,
        since: LogOptions::since(crate::clock::now(), query.since_seconds, query.since_time),
        limit_bytes: query.limit_bytes,
        stream: LogStream::default(),
    };
    let container = attempt(&host, &plan, query.previous)?;
    let path = host.log_path(&container).ok_or_else(|| not_started(&plan))?;
    let ended = server.ends.follow(&container);
    if host.has_ended(&container) {
        server.ends.ended(&container);
    }
    let log = LogFollow::open(&path, options, ended).await;
    let mut log = log.map_err(|error| Status::internal(format!("the log cannot be read: {error}")))?;
    let (sender, receiver) = mpsc::channel::<Bytes>(LOG_CHUNKS_MAX);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                chunk = log.next() => match chunk {
                    Some(Ok(chunk)) => if sender.send(chunk).await.is_err() { return },
                    _ => return,
                },
                () = sender.closed() => return,
            }
        }
    });
    let mut response = Response::new(Out::Stream(receiver));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The run whose log is meant.
fn attempt(host: &Host, plan: &StreamPlan, is_previous: bool) -> Result<ContainerRef, Status> {
    let Some(last) = current(host, plan) else {
        return Err(if is_previous { no_previous(plan) } else { not_started(plan) });
    };
    if !is_previous {
        return Ok(last);
    }
    let before = last.attempt.checked_sub(1).map(|attempt| ContainerRef { attempt, ..last });
    before.filter(|container| host.log_path(container).is_some()).ok_or_else(|| no_previous(plan))
}

fn no_previous(plan: &StreamPlan) -> Status {
    let (container, pod) = (&plan.container, &plan.resource.name);
    Status::bad_request(format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"))
}

fn not_started(plan: &StreamPlan) -> Status {
    let (container, pod) = (&plan.container, &plan.resource.name);
    Status::bad_request(format!("container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating"))
}
