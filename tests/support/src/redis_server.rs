//! A real `redis-server` of the test's own, gone when the test is.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::owned_process::OwnedProcess;
use crate::reserved_port::ReservedPort;
use crate::server_program;
use crate::shifted_clock::ShiftedClock;
use crate::wait::{PATIENCE, POLL_EVERY, eventually, within};

/// The settings of a server that name its certificates, and the files that they name.
pub(crate) const CERTIFICATES: [(&str, &str); 3] = [
    ("tls-cert-file", "server.pem"),
    ("tls-key-file", "server.key"),
    ("tls-ca-cert-file", "root.pem"),
];

/// How a [`RedisServer`] is started.
///
/// # Default
///
/// TCP on a free port of 127.0.0.1 and a unix socket; no password; nothing persisted.
#[must_use]
pub struct RedisServerBuilder {
    tcp: bool,
    cluster: bool,
    tls: bool,
    password: Option<String>,
    args: Vec<String>,
    env: Vec<(&'static str, PathBuf)>,
}

impl RedisServerBuilder {
    /// Whether it listens on TCP besides its unix socket. Default: true.
    pub fn tcp(mut self, tcp: bool) -> Self {
        self.tcp = tcp;
        self
    }

    /// Makes it a node of a cluster. It knows no other node and serves no slot.
    pub fn cluster_node(mut self) -> Self {
        self.cluster = true;
        self.arg("--cluster-enabled").arg("yes")
    }

    /// Makes it listen with TLS, and follow its primary with TLS. `certificates` has `server.pem`, `server.key`
    /// and `root.pem`.
    pub fn tls(mut self, certificates: &Path) -> Self {
        self.tls = true;
        self.args
            .extend(["--tls-auth-clients", "no", "--tls-replication", "yes"].map(str::to_owned));
        for (arg, file) in CERTIFICATES {
            self = self.arg(format!("--{arg}")).arg(certificates.join(file).display().to_string());
        }
        self
    }

    /// Asks this password of the default user. The urls carry it.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.arg("--requirepass").arg(password)
    }

    /// Allows the command `DEBUG`. Redis 6.2 always does.
    pub fn debug_command(self) -> Self {
        match server_program::major_version() {
            ..7 => self,
            7.. => self.arg("--enable-debug-command").arg("yes"),
        }
    }

    /// Makes it tell the time by a clock of the test, which must outlive it.
    pub fn clock(mut self, clock: &ShiftedClock) -> Self {
        self.env.extend(clock.env());
        self
    }

    /// Adds one argument to the command line: `.arg("--maxmemory").arg("5mb")`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> RedisServer {
        let directory = tempfile::tempdir().expect("making a directory for redis-server");
        let (port, bus_port) = self.ports();
        let process = spawn(&self, &directory, port.as_ref());
        let mut server = RedisServer {
            process,
            directory,
            port,
            _bus_port: bus_port,
            answers: true,
            options: self,
        };
        server.wait_until_ready().await;
        server
    }

    fn ports(&self) -> (Option<ReservedPort>, Option<ReservedPort>) {
        if self.cluster {
            let (port, bus_port) = ReservedPort::pair(CLUSTER_BUS);
            return (Some(port), Some(bus_port));
        }
        (self.tcp.then(ReservedPort::any), None)
    }
}

/// By how much the port of the cluster bus is above the port of the server.
const CLUSTER_BUS: u16 = 10_000;

/// A `redis-server` process with a directory and a port of its own. Dropping it kills the process.
pub struct RedisServer {
    // Before the directory and the port: the process goes first.
    process: OwnedProcess,
    directory: TempDir,
    port: Option<ReservedPort>,
    _bus_port: Option<ReservedPort>,
    answers: bool,
    options: RedisServerBuilder,
}

impl RedisServer {
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder {
            tcp: true,
            cluster: false,
            tls: false,
            password: None,
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn url(&self) -> String {
        let credentials = match &self.options.password {
            Some(password) => format!(":{password}@"),
            None => String::new(),
        };
        format!("redis://{credentials}{}", self.addr())
    }

    pub fn unix_url(&self) -> String {
        let query = match &self.options.password {
            Some(password) => format!("?pass={password}"),
            None => String::new(),
        };
        format!("redis+unix://{}{query}", self.socket_path().display())
    }

    /// # Panics
    ///
    /// If the server was started with `tcp(false)`.
    pub fn addr(&self) -> SocketAddr {
        let port = self.port.as_ref().expect("this server listens on no TCP port");
        port.addr()
    }

    pub fn port(&self) -> u16 {
        self.addr().port()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Stops the process (SIGSTOP): its sockets stay open and nobody answers.
    pub fn freeze(&mut self) {
        self.process.freeze();
        self.answers = false;
    }

    /// Lets a frozen server go on; it then runs what has been sent to it meanwhile.
    pub fn thaw(&mut self) {
        self.process.thaw();
        self.answers = true;
    }

    /// Kills the process. Connections to its port are refused until [`restart_empty`](Self::restart_empty).
    pub fn kill(&mut self) {
        self.process.kill();
        self.answers = false;
    }

    /// Whether it is neither killed nor frozen.
    pub fn answers(&self) -> bool {
        self.answers
    }

    /// Cuts all connections of clients, also those that have subscribed to channels.
    pub async fn cut_connections(&self) {
        for kind in ["normal", "pubsub"] {
            self.cmd(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await;
        }
    }

    /// A new server on the same port and socket, with the data of the last `SAVE`. The present one is killed.
    pub async fn restart(&mut self) {
        self.restart_empty().await;
    }

    /// A new server without data on the same port and socket; the present one is killed, if it still runs.
    /// A node of a cluster still knows its id, the other nodes and its slots.
    pub async fn restart_empty(&mut self) {
        self.kill();
        // Else its listener, which is gone, would look like a server that is not up yet.
        match fs::remove_file(self.socket_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                panic!("removing the dead server's socket: {error}")
            }
            _ => {}
        }
        self.process = spawn(&self.options, &self.directory, self.port.as_ref());
        self.wait_until_ready().await;
        self.answers = true;
    }

    /// A new node of a cluster at the same address: without data, with another id, and knowing no other node.
    pub async fn replace_node(&mut self) {
        self.kill();
        fs::remove_file(self.directory.path().join("nodes.conf")).expect("forgetting the cluster");
        self.restart_empty().await;
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(&self.directory))
            .unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// A connection for a test's own questions, by the unix socket: no fault on the TCP side touches it.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.unix_url()).expect("the url of this server");
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap_or_else(|error| {
            panic!("connecting to redis-server: {error}; its log:\n{}", self.log())
        })
    }

    /// Runs one command: `server.cmd(&["ZCARD", "zsem:{a}:permits"]).await`.
    ///
    /// # Panics
    ///
    /// If the server answers with an error; [`try_query`](Self::try_query) returns it instead.
    pub async fn cmd(&self, words: &[&str]) -> redis::Value {
        self.query(words).await
    }

    /// As [`cmd`](Self::cmd), with the reply as a `T`.
    pub async fn query<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_query(words).await.unwrap_or_else(|error| panic!("{words:?} failed: {error}"))
    }

    pub async fn try_query<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = self.connection().await;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
    }

    /// Becomes a replica of `primary`, which it reaches by this port, and waits until it acknowledges writes.
    pub async fn follow(&self, primary: &Self, port: u16) {
        self.cmd(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
        eventually("the replica is in step", PATIENCE, async || {
            let info: String = self.query(&["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
        primary.has_replicas(1).await;
    }

    /// Waits until this replica has all that its primary has now. `WAIT` would wait for the writes of its own
    /// connection only.
    pub async fn has_all_of(&self, primary: &Self) {
        let written = primary.replication_offset("master_repl_offset:").await;
        eventually("the replica has all", PATIENCE, async || {
            self.replication_offset("slave_repl_offset:").await >= written
        })
        .await;
    }

    /// Waits until this number of replicas has all that this primary has written. A new one begins to acknowledge up to a
    /// second after its link is up.
    pub async fn has_replicas(&self, count: u32) {
        let mut connection = self.connection().await;
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg("written").arg(1).ignore().cmd("DEL").arg("written").ignore();
        pipe.cmd("WAIT").arg(count).arg(PATIENCE.as_secs() * 1_000);
        let (replicas,): (u32,) =
            pipe.query_async(&mut connection).await.expect("writing, and asking for replicas");
        assert!(replicas >= count, "{replicas} of {count} replicas have what was written");
    }

    async fn replication_offset(&self, field: &str) -> u64 {
        let info: String = self.query(&["INFO", "replication"]).await;
        let number = info.lines().find_map(|line| line.strip_prefix(field));
        number.and_then(|number| number.trim().parse().ok()).expect("a server tells its offset")
    }

    /// The names of all keys, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let names: Vec<Vec<u8>> = self.query(&["KEYS", "*"]).await;
        let mut names: Vec<_> =
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort();
        names
    }

    /// Evicts all keys, as a server does that has no memory for them, and then gives it back its memory.
    pub async fn evict_all(&self) {
        self.cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
        self.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
        let refused: RedisResult<()> = self.try_query(&["SET", "one-more", "1"]).await;
        assert!(refused.is_err(), "nothing fits into one byte");
        eventually("all is evicted", PATIENCE, async || self.keys().await.is_empty()).await;
        self.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }

    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // The unix socket is in a directory of our own, so no other server can be mistaken for this
        // one; and it is opened after the TCP port, so it answers for both.
        while !answers_ping(self.socket_path()).await {
            let ended = self.process.exited();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "redis-server does not answer (exit status: {ended:?}); its log:\n{}",
                self.log()
            );
            sleep(POLL_EVERY).await;
        }
    }

    fn socket_path(&self) -> PathBuf {
        socket_path(&self.directory)
    }
}

fn spawn(
    options: &RedisServerBuilder,
    directory: &TempDir,
    port: Option<&ReservedPort>,
) -> OwnedProcess {
    // Standard output rather than `--logfile`: complaints about the arguments go there alone.
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path(directory))
        .expect("opening redis-server's log");
    let port = port.map_or(0, |port| port.addr().port());
    let mut command = server_program::server();
    match options.tls {
        true => command.args(["--port", "0", "--tls-port", &port.to_string()]),
        false => command.args(["--port", &port.to_string()]),
    };
    command
        .args(["--bind", "127.0.0.1"])
        .arg("--unixsocket")
        .arg(socket_path(directory))
        .arg("--dir")
        .arg(directory.path())
        .args(["--save", "", "--appendonly", "no", "--loglevel", "notice"])
        .args(&options.args)
        .envs(options.env.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("sharing the log with standard error"))
        .stderr(log);
    OwnedProcess::spawn(&mut command).unwrap_or_else(|error| {
        let program = command.get_program();
        panic!(
            "cannot run {program:?}: {error}. These tests need a real server: \
             install Redis 7 or later and put `redis-server` on the PATH"
        )
    })
}

async fn answers_ping(socket: PathBuf) -> bool {
    let ping = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut reply = [0; 16];
        let length = stream.read(&mut reply).await?;
        // NOAUTH is an answer too; LOADING is not one yet.
        io::Result::Ok(
            reply[..length].starts_with(b"+PONG") || reply[..length].starts_with(b"-NOAUTH"),
        )
    };
    within(PATIENCE, ping).await.unwrap_or(false)
}

fn socket_path(directory: &TempDir) -> PathBuf {
    directory.path().join("redis.sock")
}

fn log_path(directory: &TempDir) -> PathBuf {
    directory.path().join("redis.log")
}
