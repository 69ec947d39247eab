//! A primary with replicas and sentinels, all real processes of the test's own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::owned_process::OwnedProcess;
use crate::redis_server::{CERTIFICATES, RedisServer};
use crate::reserved_port::ReservedPort;
use crate::server_program;
use crate::wait::{PATIENCE, eventually};

/// The name of the primary, as the sentinels know it.
pub const MASTER: &str = "mymaster";

/// A socket for a test's own questions, in the directory of a sentinel.
const SOCKET: &str = "sentinel.sock";

/// Above what a failover needs, also if the sentinels first disagree about who leads it.
pub const FAILOVER: Duration = Duration::from_secs(40);

/// For how long a server must be silent to count as down.
const DOWN_AFTER: Duration = Duration::from_millis(500);

/// How a [`SentinelDeployment`] is started.
///
/// # Default
///
/// Two replicas, three sentinels, no passwords.
#[must_use]
pub struct SentinelDeploymentBuilder {
    replicas: usize,
    sentinels: usize,
    password: Option<String>,
    sentinel_password: Option<String>,
    certificates: Option<PathBuf>,
    tls_of_sentinels: bool,
    server_args: Vec<String>,
    sentinel_lines: Vec<String>,
}

impl SentinelDeploymentBuilder {
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    pub fn sentinels(mut self, sentinels: usize) -> Self {
        self.sentinels = sentinels;
        self
    }

    /// Asks this password of the default user of the primary and the replicas.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Asks this password of the default user of the sentinels.
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// Makes all of them talk with TLS. `certificates` is as for
    /// [`RedisServerBuilder::tls`](crate::redis_server::RedisServerBuilder::tls).
    pub fn tls(mut self, certificates: &Path) -> Self {
        self.certificates = Some(certificates.to_owned());
        self
    }

    /// Makes only the primary and the replicas talk with TLS. The sentinels listen without it.
    pub fn tls_of_servers(mut self, certificates: &Path) -> Self {
        self.tls_of_sentinels = false;
        self.tls(certificates)
    }

    /// Adds arguments to the command lines of the primary and the replicas.
    pub fn server_args(mut self, args: &str) -> Self {
        self.server_args.extend(args.split_whitespace().map(str::to_owned));
        self
    }

    /// Adds a line to the configuration of the sentinels.
    pub fn sentinel_line(mut self, line: &str) -> Self {
        self.sentinel_lines.push(line.to_owned());
        self
    }

    /// Starts all processes, and waits until the sentinels know each other and the replicas.
    pub async fn start(self) -> SentinelDeployment {
        let primary = self.server(&[]).await;
        let of = ["--replicaof", "127.0.0.1", &primary.port().to_string()];
        let mut servers = vec![primary];
        for _ in 0..self.replicas {
            servers.push(self.server(&of).await);
        }
        for replica in &servers[1..] {
            eventually("the replica is up to date", PATIENCE, async || {
                let info: String = replica.query(&["INFO", "replication"]).await;
                info.contains("master_link_status:up")
            })
            .await;
        }
        let primary = servers[0].addr();
        let sentinels = (0..self.sentinels).map(|_| SentinelServer::spawn(&self, primary));
        let deployment =
            SentinelDeployment { servers, sentinels: sentinels.collect(), options: self };
        deployment.wait_until_ready().await;
        deployment
    }

    async fn server(&self, args: &[&str]) -> RedisServer {
        let mut builder = RedisServer::builder();
        for arg in ["--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb"] {
            builder = builder.arg(arg);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder.tls(certificates);
        }
        if let Some(password) = &self.password {
            builder = builder.password(password).arg("--masterauth").arg(password);
        }
        for arg in self.server_args.iter().map(String::as_str).chain(args.iter().copied()) {
            builder = builder.arg(arg);
        }
        builder.start().await
    }
}

/// One primary, its replicas and its sentinels. Dropping it kills all processes.
pub struct SentinelDeployment {
    /// The primary of the start comes first.
    pub servers: Vec<RedisServer>,
    pub sentinels: Vec<SentinelServer>,
    options: SentinelDeploymentBuilder,
}

impl SentinelDeployment {
    pub fn builder() -> SentinelDeploymentBuilder {
        SentinelDeploymentBuilder {
            replicas: 2,
            sentinels: 3,
            password: None,
            sentinel_password: None,
            certificates: None,
            tls_of_sentinels: true,
            server_args: Vec::new(),
            sentinel_lines: Vec::new(),
        }
    }

    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts a sentinel that is none of the deployment, and monitors `primary` under the same name.
    pub async fn stray_sentinel(&self, primary: &RedisServer) -> SentinelServer {
        let sentinel = SentinelServer::spawn(&self.options, primary.addr());
        eventually("the stray sentinel answers", PATIENCE, async || {
            sentinel.primary().await.is_ok()
        })
        .await;
        sentinel
    }

    /// The url with all sentinels and all passwords.
    pub fn url(&self) -> String {
        let seeds: Vec<_> = self.sentinels.iter().map(|s| s.addr().to_string()).collect();
        self.url_by(&seeds.join(","))
    }

    /// The url with these sentinels and all passwords.
    pub fn url_by(&self, seeds: &str) -> String {
        let login = self.options.password.as_ref().map(|password| format!(":{password}@"));
        let sentinel = self.options.sentinel_password.as_ref();
        let query = sentinel.map(|password| format!("?sentinel_password={password}"));
        let (login, query) = (login.unwrap_or_default(), query.unwrap_or_default());
        format!("redis+sentinel://{login}{seeds}/{MASTER}{query}")
    }

    /// Which server is at an address.
    pub fn at(&self, addr: SocketAddr) -> usize {
        let found = self.servers.iter().position(|server| server.addr() == addr);
        found.unwrap_or_else(|| panic!("no server of the deployment is at {addr}"))
    }

    /// Which server the first living sentinel names as the primary.
    pub async fn primary(&self) -> usize {
        for sentinel in &self.sentinels {
            if let Ok(addr) = sentinel.primary().await {
                return self.at(addr);
            }
        }
        panic!("no sentinel answers")
    }

    /// Whether a server says that it is a primary.
    pub async fn is_primary(&self, server: usize) -> bool {
        says_primary(&self.servers[server]).await
    }

    /// Waits until a server other than `old` says that it is a primary. Returns which one, and when it said so.
    pub async fn promoted(&self, old: usize) -> (usize, Instant) {
        let deadline = Instant::now() + FAILOVER;
        loop {
            for (place, server) in self.servers.iter().enumerate() {
                if place != old && says_primary(server).await {
                    return (place, Instant::now());
                }
            }
            assert!(Instant::now() < deadline, "no replica was promoted within {FAILOVER:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until a sentinel names another primary than `old`. Returns which one, and when it did.
    pub async fn named_other_than(&self, old: usize) -> (usize, Instant) {
        let deadline = Instant::now() + FAILOVER;
        loop {
            for sentinel in &self.sentinels {
                if let Ok(addr) = sentinel.primary().await
                    && self.at(addr) != old
                {
                    return (self.at(addr), Instant::now());
                }
            }
            assert!(Instant::now() < deadline, "no sentinel names another primary");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn wait_until_ready(&self) {
        for sentinel in &self.sentinels {
            eventually("the sentinel knows the deployment", FAILOVER, async || {
                let known = sentinel.query::<Vec<String>>(&["SENTINEL", "MASTER", MASTER]).await;
                let known = known.unwrap_or_default();
                let number = |field: &str| {
                    let at = known.iter().position(|word| word == field);
                    at.and_then(|at| known[at + 1].parse::<usize>().ok())
                };
                number("num-slaves") == Some(self.options.replicas)
                    && number("num-other-sentinels") == Some(self.options.sentinels - 1)
            })
            .await;
        }
    }
}

async fn says_primary(server: &RedisServer) -> bool {
    let role = ask(server, &["ROLE"]).await;
    let Ok(redis::Value::Array(role)) = role else { return false };
    role.first() == Some(&redis::Value::BulkString(b"master".to_vec()))
}

/// Asks a server by its socket. In a failover, sentinels end all connections of a server, this one too.
pub async fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> RedisResult<T> {
    let mut connection = connect(&server.unix_url()).await?;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
}

async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// A `redis-server` process that is a sentinel. Dropping it kills the process.
pub struct SentinelServer {
    process: OwnedProcess,
    directory: TempDir,
    port: ReservedPort,
    password: Option<String>,
}

impl SentinelServer {
    fn spawn(options: &SentinelDeploymentBuilder, primary: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("making a directory for a sentinel");
        let port = ReservedPort::any();
        let quorum = options.sentinels / 2 + 1;
        let listens = match options.certificates.is_some() && options.tls_of_sentinels {
            true => format!("port 0\ntls-port {}", port.addr().port()),
            false => format!("port {}", port.addr().port()),
        };
        let mut lines = vec![
            listens,
            "bind 127.0.0.1".to_owned(),
            format!("unixsocket {}", directory.path().join(SOCKET).display()),
            format!("dir {}", directory.path().display()),
            format!("sentinel monitor {MASTER} 127.0.0.1 {} {quorum}", primary.port()),
            format!("sentinel down-after-milliseconds {MASTER} {}", DOWN_AFTER.as_millis()),
            format!("sentinel failover-timeout {MASTER} 3000"),
        ];
        if let Some(password) = &options.password {
            lines.push(format!("sentinel auth-pass {MASTER} {password}"));
        }
        if let Some(password) = &options.sentinel_password {
            lines.push(format!("requirepass {password}"));
            lines.push(format!("sentinel sentinel-pass {password}"));
        }
        if let Some(certificates) = &options.certificates {
            lines.extend(["tls-replication yes", "tls-auth-clients no"].map(str::to_owned));
            let name = |(setting, file)| format!("{setting} {}", certificates.join(file).display());
            lines.extend(CERTIFICATES.map(name));
        }
        lines.extend(options.sentinel_lines.iter().cloned());
        let config = directory.path().join("sentinel.conf");
        fs::write(config, lines.join("\n") + "\n").expect("writing the settings of a sentinel");
        let password = options.sentinel_password.clone();
        Self { process: run(&directory), directory, port, password }
    }

    /// Starts a killed sentinel again. It knows what it knew.
    pub fn restart(&mut self) {
        self.process.kill();
        fs::remove_file(self.directory.path().join(SOCKET))
            .expect("removing the dead one's socket");
        self.process = run(&self.directory);
    }

    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the process (SIGSTOP): its sockets stay open and nobody answers.
    pub fn freeze(&mut self) {
        self.process.freeze();
    }

    pub fn thaw(&mut self) {
        self.process.thaw();
    }

    /// Which address this sentinel names as that of the primary.
    pub async fn primary(&self) -> RedisResult<SocketAddr> {
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
        let (host, port): (String, u16) = self.query(&question).await?;
        Ok(SocketAddr::new(host.parse().expect("a sentinel tells an address"), port))
    }

    /// Makes a replica the primary, by hand, as soon as the sentinel thinks that there is a suitable one.
    pub async fn fail_over(&self) {
        eventually("the failover begins", FAILOVER, async || {
            self.query::<redis::Value>(&["SENTINEL", "FAILOVER", MASTER]).await.is_ok()
        })
        .await;
    }

    pub async fn query<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let password = self.password.as_ref().map(|password| format!("?pass={password}"));
        let socket = self.directory.path().join(SOCKET);
        let url = format!("redis+unix://{}{}", socket.display(), password.unwrap_or_default());
        connect(&url).await
    }
}

fn run(directory: &TempDir) -> OwnedProcess {
    let log = directory.path().join("sentinel.log");
    let log = File::options().create(true).append(true).open(log).expect("making a log");
    let mut command = server_program::server();
    command
        .arg(directory.path().join("sentinel.conf"))
        .arg("--sentinel")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("sharing the log with standard error"))
        .stderr(log);
    OwnedProcess::spawn(&mut command).expect("running a sentinel")
}
