//! What URLs lead to, and how they are shown.

use proptest::prelude::*;

use crate::store::redis::url::{Access, Cluster, Endpoint, Sentinel, Single, Target, parse, shown};

// Behaviour 71
#[test]
fn a_shown_url_hides_the_password() {
    for (url, shown_as) in [
        ("redis://u:p@host:1/2", "redis://***@host:1/2"),
        ("redis://:p@ss@host", "redis://***@host"),
        ("unix:///tmp/s?pass=p", "unix:///tmp/s"),
        ("app:p@host:6379", "***@host:6379"),
        ("u:p@x://host", "***@x:/***"),
        ("nonsense", "***"),
        // A list, and passwords of sentinels.
        ("redis+cluster://u:p@a:1,b:2", "redis+cluster://***@a:1,b:2"),
        ("redis+cluster://u:p@a,u:p@b", "redis+cluster://***@b"),
        ("redis+sentinel://a,[::1]:5/m?sentinel_password=p", "redis+sentinel://a,[::1]:5/m"),
        ("redis+sentinel://a/m?sentinel_password=p@q", "redis+sentinel://***"),
        // A password with characters that end the hosts.
        ("redis://u:p/q@host", "redis://***@host"),
        ("redis://u:p?q@host", "redis://***"),
        ("redis://u:p#q@host", "redis://***"),
        // A password without its host.
        ("redis://u:pass", "redis://u:***"),
        ("redis://:pass", "redis://:***"),
        ("u:pass", "u:***"),
        ("redis://host:99999", "redis://host:***"),
        ("redis://::1:6379", "redis://::1:6379"),
        // A password in the place of a host, a port, a database or a parameter.
        ("redis://u:p@ss@host:pass/pass", "redis://***@host:***/***"),
        ("redis://host/pass", "redis://host/***"),
        ("redis://host/0", "redis://host/0"),
        ("redis://host/", "redis://host/"),
        ("redis://host:1/0/pass", "redis://host:1/***"),
        ("redis://u:pass:6379", "redis://***"),
        ("redis://pa$$/0", "redis://***/0"),
        ("redis://[pass]:1", "redis://***"),
        ("redis://[::1]:pass", "redis://[::1]:***"),
        ("redis://0.0.0.0:pass", "redis://0.0.0.0:***"),
        ("redis://host?auth=pass", "redis://host"),
        ("redis+cluster://a,b:pass,c/pass", "redis+cluster://a,b:***,c/***"),
        ("redis+sentinel://a/m/pass", "redis+sentinel://a/m/***"),
        ("redis+sentinel://a/m/3", "redis+sentinel://a/m/3"),
        ("redis+sentinel://a//\u{e4}/x", "redis+sentinel://a/\u{e4}/***"),
        ("redis+sentinel://a/my pass", "redis+sentinel://a/***"),
        ("redis-sentinel://a/pass?sentinelMasterId=m", "redis-sentinel://a/***"),
        ("redis-sentinel://a/2?sentinelServiceName=m", "redis-sentinel://a/2"),
        ("http://host/pass", "http://host/***"),
        ("redis:pass", "redis:***"),
        ("host:6379", "host:6379"),
    ] {
        assert_eq!(shown(url), shown_as);
    }
    assert_eq!(shown(&format!("redis://{}", "x".repeat(9_999))).len(), 160);
}

/// Writes a target in one line: `single host:port/database user:password`.
fn line(target: &Target) -> String {
    match target {
        Target::Single(Single { endpoint, access }) => {
            format!("single {}", server(access, std::slice::from_ref(endpoint)))
        }
        Target::Sentinel(Sentinel { seeds, master, of_sentinels, of_primary }) => {
            let seeds: Vec<_> = seeds.iter().cloned().map(Endpoint::Tcp).collect();
            let primary = server(of_primary, &[]);
            format!("sentinel {} master {master} {primary}", server(of_sentinels, &seeds))
        }
        Target::Cluster(Cluster { seeds, access }) => {
            let seeds: Vec<_> = seeds.iter().cloned().map(Endpoint::Tcp).collect();
            format!("cluster {}", server(access, &seeds))
        }
    }
}

fn server(access: &Access, endpoints: &[Endpoint]) -> String {
    let shown = endpoints.iter().map(|endpoint| match endpoint {
        Endpoint::Tcp(address) => address.to_string(),
        Endpoint::Unix(path) => path.display().to_string(),
    });
    let hosts = shown.collect::<Vec<_>>().join(",");
    let settings = access.to(&Endpoint::Unix("/".into())).unwrap();
    let settings = settings.redis_settings();
    let user = settings.username().unwrap_or("-");
    let password = settings.password().unwrap_or("-");
    let tls = format!("{:?}", access.tls).to_lowercase();
    format!("{hosts}/{} {user}:{password} tls {tls}", settings.db())
}

#[track_caller]
fn leads(url: &str, to: &str) {
    match parse(url) {
        Ok(target) => assert_eq!(line(&target), to, "{url}"),
        Err(error) => panic!("{url}: {error}"),
    }
}

// Behaviour 71
#[test]
fn a_url_of_one_server() {
    for (url, to) in [
        ("redis://127.0.0.1:6379", "127.0.0.1:6379/0 -:- tls off"),
        ("redis://host", "host:6379/0 -:- tls off"),
        (" redis://host\n", "host:6379/0 -:- tls off"),
        ("redis://host:/", "host:6379/0 -:- tls off"),
        ("REDIS://Host:1/", "Host:1/0 -:- tls off"),
        ("redis://host/3", "host:6379/3 -:- tls off"),
        ("redis://host//3//", "host:6379/3 -:- tls off"),
        ("redis://user@host", "host:6379/0 user:- tls off"),
        ("redis://:pw@host", "host:6379/0 -:pw tls off"),
        ("redis://user:pw@host:7/2", "host:7/2 user:pw tls off"),
        ("redis://:@host", "host:6379/0 -:- tls off"),
        ("redis://us%65r:p%40%3a%2F%2c@host", "host:6379/0 user:p@:/, tls off"),
        ("redis://:p@ss:word@host", "host:6379/0 -:p@ss:word tls off"),
        ("redis://:50%off%@host", "host:6379/0 -:50%off% tls off"),
        ("redis://:p+q@host", "host:6379/0 -:p+q tls off"),
        ("redis://:%C3%A4@host", "host:6379/0 -:ä tls off"),
        ("redis://[::1]", "[::1]:6379/0 -:- tls off"),
        ("redis://u:p@[2001:db8::7]:7000/1", "[2001:db8::7]:7000/1 u:p tls off"),
        ("redis://my_host-1.example.", "my_host-1.example.:6379/0 -:- tls off"),
        ("redis://host?protocol=resp3", "host:6379/0 -:- tls off"),
        ("redis://host#insecure", "host:6379/0 -:- tls off"),
        ("rediss://u:p@host:1", "host:1/0 u:p tls on"),
        ("rediss://host#insecure", "host:6379/0 -:- tls unverified"),
        ("valkey://host/4", "host:6379/4 -:- tls off"),
        ("valkeys://host", "host:6379/0 -:- tls on"),
        ("unix:///run/redis.sock", "/run/redis.sock/0 -:- tls off"),
        ("unix:/run/redis.sock", "/run/redis.sock/0 -:- tls off"),
        ("unix://localhost/run/a%20b", "/run/a b/0 -:- tls off"),
        ("redis+unix:///s?db=1&user=u&pass=p", "/s/1 u:p tls off"),
        ("valkey+unix:///s?pass=p%2Bq+r&db=0", "/s/0 -:p+q r tls off"),
        ("unix://u:p@/s?db=2", "/s/2 u:p tls off"),
    ] {
        leads(url, &format!("single {to}"));
    }
}

// Behaviour 71
#[test]
fn a_url_of_sentinels() {
    let plain = "a:26379/0 -:- tls off master m /0 -:- tls off";
    for (url, to) in [
        ("redis+sentinel://a/m", plain),
        ("redis-sentinel://a/m", plain),
        ("valkey+sentinel://a/m", plain),
        ("valkey-sentinel://a/m/", plain),
        ("redis-sentinel://a?sentinelMasterId=m", plain),
        ("redis+sentinel://a/0?sentinelServiceName=m", plain),
        (
            "redis-sentinel://a/5?sentinelMasterId=m",
            "a:26379/0 -:- tls off master m /5 -:- tls off",
        ),
        (
            "redis+sentinel://u:p@a,b:1,[::1]:2/my-master/3",
            "a:26379,b:1,[::1]:2/0 -:- tls off master my-master /3 u:p tls off",
        ),
        (
            "redis+sentinel://u:p@a/m?sentinel_user=su&sentinel_password=s%40p",
            "a:26379/0 su:s@p tls off master m /0 u:p tls off",
        ),
        (
            "redis-sentinel://:p@a/1?sentinelServiceName=m&sentinelUsername=u&sentinelPassword=s@p",
            "a:26379/0 u:s@p tls off master m /1 -:p tls off",
        ),
        (
            "redis-sentinel://a?node=b&node=c:5&sentinelServiceName=m",
            "a:26379,b:26379,c:5/0 -:- tls off master m /0 -:- tls off",
        ),
        ("rediss+sentinel://a/m", "a:26379/0 -:- tls on master m /0 -:- tls on"),
        ("rediss-sentinel://a/m", "a:26379/0 -:- tls on master m /0 -:- tls on"),
        ("valkeys+sentinel://a/m", "a:26379/0 -:- tls on master m /0 -:- tls on"),
        ("valkeys-sentinel://a/m", "a:26379/0 -:- tls on master m /0 -:- tls on"),
        (
            "rediss+sentinel://a/m#insecure",
            "a:26379/0 -:- tls unverified master m /0 -:- tls unverified",
        ),
        ("rediss+sentinel://a/m?sentinel_tls=no", "a:26379/0 -:- tls off master m /0 -:- tls on"),
        ("redis+sentinel://a/m?sentinel_tls=yes", "a:26379/0 -:- tls on master m /0 -:- tls off"),
        (
            "rediss+sentinel://a/m?sentinel_tls=yes#insecure",
            "a:26379/0 -:- tls unverified master m /0 -:- tls unverified",
        ),
        ("redis+sentinel://a/7seas", "a:26379/0 -:- tls off master 7seas /0 -:- tls off"),
        ("redis+sentinel://a?sentinelMasterId=7", "a:26379/0 -:- tls off master 7 /0 -:- tls off"),
    ] {
        leads(url, &format!("sentinel {to}"));
    }
}

// Behaviour 71
#[test]
fn a_url_of_a_cluster() {
    for (url, to) in [
        ("redis+cluster://a", "a:6379/0 -:- tls off"),
        ("redis-cluster://a/0", "a:6379/0 -:- tls off"),
        ("valkey+cluster://a,b", "a:6379,b:6379/0 -:- tls off"),
        ("valkey-cluster://a,b", "a:6379,b:6379/0 -:- tls off"),
        ("redis+cluster://u:p@a:1,b:2,[::1]", "a:1,b:2,[::1]:6379/0 u:p tls off"),
        ("redis-cluster://:p,q@a:1?node=b:2", "a:1,b:2/0 -:p,q tls off"),
        ("rediss+cluster://a", "a:6379/0 -:- tls on"),
        ("rediss-cluster://u:p@a", "a:6379/0 u:p tls on"),
        ("valkeys+cluster://a", "a:6379/0 -:- tls on"),
        ("valkeys-cluster://a#insecure", "a:6379/0 -:- tls unverified"),
    ] {
        leads(url, &format!("cluster {to}"));
    }
}

#[track_caller]
fn refused(url: &str, problem: &str, allowed: &str) {
    match parse(url) {
        Ok(target) => panic!("{url} is accepted: {target:?}"),
        Err(error) => {
            assert_eq!(error.problem().unwrap_or("-"), problem, "{url}");
            assert!(error.allowed().contains(allowed), "{url}: {error}");
            assert!(error.to_string().len() < 400, "{url}: {error}");
        }
    }
}

// Behaviour 71
#[test]
fn a_bad_url_is_refused_with_what_is_wrong_and_with_what_is_allowed() {
    let (single, sentinel, cluster) = ("redis://[user]", "/master[/db]", "redis+cluster://[user");
    let of_list = "the name of the master is missing; it follows the sentinels, as in /mymaster";
    for (url, problem, allowed) in [
        ("", "-", "redis+sentinel://, rediss+sentinel://, redis+cluster://"),
        ("nonsense", "-", "valkey instead of redis"),
        ("host:6379", "-", "unix:///path"),
        ("redis//host", "-", "rediss:// for TLS"),
        ("redis:host", "-", single),
        ("http://host", "the scheme http is not known", "redis+cluster://"),
        ("redisx://host", "the scheme redisx is not known", single),
        ("rediss+unix:///s", "the scheme rediss+unix is not known", single),
        ("redis_sentinel://a/m", "-", "redis+sentinel://"),
        // Hosts.
        ("redis://", "the host is missing", single),
        ("redis://u:p@", "the host is missing", single),
        ("redis://:6379", "the host is missing", single),
        ("redis+sentinel:///m", "the host is missing", sentinel),
        ("redis+cluster://", "the host is missing", cluster),
        ("redis+cluster://a,,b", "host 2 of the list is missing", cluster),
        ("redis+cluster://a,b,", "host 3 of the list is missing", cluster),
        ("redis+sentinel://,a/m", "host 1 of the list is missing", sentinel),
        ("redis+sentinel://a,:1/m", "host 2 of the list is missing", sentinel),
        (
            "redis+sentinel://a?node=&sentinelMasterId=m",
            "the host of a parameter `node` is missing",
            sentinel,
        ),
        (
            "redis://a,b",
            "it has several hosts; a list needs redis+sentinel:// or redis+cluster://",
            single,
        ),
        ("redis://ho st", "the host has a character that no host has", single),
        ("redis://[::1]x", "the host has a character that no host has", single),
        ("redis+cluster://a,b%20", "host 2 of the list has a character that no host has", cluster),
        ("redis://::1", "the host is an IPv6 address that does not stand as [::1]", single),
        ("redis://[::1", "the host is an IPv6 address that does not stand as [::1]", single),
        (
            "redis://[fe80::1%eth0]",
            "the host is an IPv6 address that does not stand as [::1]",
            single,
        ),
        ("redis://[a]", "the host is an IPv6 address that does not stand as [::1]", single),
        ("redis://0.0.0.0", "the host is an address to listen on, not to connect to", single),
        ("redis://[::]:1", "the host is an address to listen on, not to connect to", single),
        // Ports.
        ("redis://host:99999", "the port behind the host is no number from 1 to 65535", single),
        ("redis://host:0", "the port behind the host is no number from 1 to 65535", single),
        ("redis://host:x", "the port behind the host is no number from 1 to 65535", single),
        ("redis://[::1]:-1", "the port behind the host is no number from 1 to 65535", single),
        (
            "redis+sentinel://a,b:x/m",
            "the port behind host 2 of the list is no number from 1 to 65535",
            sentinel,
        ),
        // Users and passwords.
        (
            "redis+cluster://u:p@a,u:p@b",
            "user and password stand once, before the first host; in a password, write %40 for @",
            cluster,
        ),
        ("redis://:%ff@host", "a percent-encoded part of it is not UTF-8", single),
        // The master and the database.
        ("redis+sentinel://a", of_list, sentinel),
        ("redis+sentinel://a/", of_list, sentinel),
        ("redis+sentinel://a/0", of_list, sentinel),
        (
            "redis+sentinel://a/%20",
            "the name of the master is empty, or has a blank or a slash",
            sentinel,
        ),
        (
            "redis+sentinel://a?sentinelMasterId=",
            "the name of the master is empty, or has a blank or a slash",
            sentinel,
        ),
        ("redis+sentinel://a/m?sentinelMasterId=m", "the database is not a number", sentinel),
        ("redis+sentinel://a/m/x", "the database is not a number", sentinel),
        ("redis+sentinel://a/m/1/2", "the database is not a number", sentinel),
        ("redis://host/x", "the database is not a number", single),
        ("redis://host/-1", "the database is not a number", single),
        ("unix:///s?db=x", "the database is not a number", single),
        ("redis+cluster://a/2", "it names a database, and a cluster has only database 0", cluster),
        ("redis+cluster://a/x", "the database is not a number", cluster),
        // Sockets.
        ("unix://run/s", "the path of a unix socket begins with a third slash", single),
        ("unix:///a@b?db=x", "the database is not a number", single),
        ("unix:///", "the path of the unix socket is missing", single),
        // Parameters.
        (
            "redis://host?timeout=5",
            "the parameter timeout is not known; it takes none but protocol",
            single,
        ),
        (
            "redis+cluster://a?db=1",
            "the parameter db is not known; it takes node and protocol",
            cluster,
        ),
        (
            "unix:///s?database=1",
            "the parameter database is not known; it takes db, user, pass and protocol",
            single,
        ),
        (
            "redis+sentinel://a/m?sentinelpw=1",
            "the parameter sentinelpw is not known; it takes sentinel_user, sentinel_password, \
             sentinel_tls, sentinelMasterId, node and protocol",
            sentinel,
        ),
        (
            "redis+sentinel://a/m?sentinel_password=a&b=c",
            "a parameter is not known, or a password has a & that is not written %26; it takes \
             sentinel_user, sentinel_password, sentinel_tls, sentinelMasterId, node and protocol",
            sentinel,
        ),
        ("redis://host?protocol=4", "the parameter protocol is neither 2 nor 3", single),
        (
            "redis+sentinel://a/m?sentinel_tls=",
            "the parameter sentinel_tls is neither yes nor no",
            sentinel,
        ),
        (
            "redis+sentinel://a/m?sentinel_user=a&sentinelUsername=b",
            "the parameter sentinel_user is there twice",
            sentinel,
        ),
        ("unix:///s?db=1&db=2", "the parameter db is there twice", single),
        ("redis://host?x", "a parameter behind the ? has no =", single),
        (
            "redis://host#x",
            "behind a # only `insecure` has a meaning, with TLS; in a password, write %23 for #",
            single,
        ),
        // What comes before the last @ may be the password.
        (
            "redis://u:p?timeout=1@host",
            "an @ stands behind the host; in a user or password, write %40 for @, %2F for /, \
             %3F for ? and %23 for #",
            single,
        ),
        (
            "redis+sentinel://u:1/q@a/m",
            "an @ stands behind the host; in a user or password, write %40 for @, %2F for /, \
             %3F for ? and %23 for #",
            sentinel,
        ),
        (
            "redis://u:p#q@host",
            "an @ stands behind the host; in a user or password, write %40 for @, %2F for /, \
             %3F for ? and %23 for #",
            single,
        ),
    ] {
        refused(url, problem, allowed);
    }
}

// Behaviour 71
#[test]
fn a_password_that_nothing_marks_as_one_is_in_no_error() {
    for form in [
        "PW",
        "redis:PW",
        "redis:user:PW",
        "user:PW",
        "redis://host:PW",
        "redis://host:6379PW",
        "redis://:PW",
        "redis://user:PW/0",
        "redis://user:PW:6379",
        "redis://host/PW",
        "redis://host/0/PW",
        "redis://p$PW/0",
        "redis://p PW",
        "redis://[PW]",
        "redis://user:pa@ss@ho$PW",
        "redis://host#PW",
        "redis://host?PW",
        "redis://host?password=PW",
        "redis://host?pass=PW",
        "redis://host?auth=PW",
        "redis://host?token=PW&PW",
        "redis://host?protocol=PW",
        "redis+cluster://a,b:PW",
        "redis+cluster://a,PW$",
        "redis+cluster://a,b/PW",
        "redis+cluster://a?node=b:PW",
        "redis+sentinel://a/m/PW",
        "redis+sentinel://a/m PW",
        "redis+sentinel://a:PW/m",
        "redis+sentinel://a/m?sentinel_tls=PW",
        "redis+sentinel://a/m?auth=PW",
        "redis-sentinel://a/PW?sentinelMasterId=m",
        "redis-sentinel://a?sentinelMasterId=m PW",
        "unix:///s?db=PW",
        "unix:///s?password=PW&x=PW",
        "http://host/PW",
    ] {
        for password in [SECRET, "31415926535"] {
            let url = form.replace("PW", password);
            let Err(error) = parse(&url) else { panic!("{url} is accepted") };
            let told = format!("{error} {error:?} {} {:?}", error.value(), error.problem());
            assert!(!told.contains(password), "{url}: {told}");
        }
    }
}

/// What passwords contain that means something in a URL, or stands for itself.
const PIECES: &[&str] = &[
    "/", "?", "#", "@", ":", ",", "%", "%40", "[", "]", "&", "=", "+", " ", "a", "1", "://",
    "?a=b&", "\u{e4}",
];

fn password() -> impl Strategy<Value = String> {
    let pieces = || proptest::collection::vec(proptest::sample::select(PIECES), 0..4);
    (pieces(), pieces())
        .prop_map(|(before, behind)| format!("{}{SECRET}{}", before.concat(), behind.concat()))
}

const SECRET: &str = "hunter2xyz";

const FORMS: &[&str] = &[
    "redis://:PW@host",
    "redis://user:PW@host:6379/1",
    "rediss://user:PW@host:x",
    "redis+sentinel://user:PW@a,b/m",
    "redis+sentinel://user:PW@a,,b/m",
    "redis+sentinel://user:PW@a,b?nothing=1",
    "redis+sentinel://a/m?sentinel_user=u&sentinel_password=PW",
    "redis+sentinel://a/m?sentinel_password=PW&sentinel_tls=x",
    "redis-sentinel://u:PW@a/m?sentinelPassword=PW&x=y",
    "redis+cluster://user:PW@a:1,b:2",
    "redis+cluster://user:PW@a:1,user:PW@b:2/3",
    "unix:///socket?pass=PW",
    "unix:///socket?db=x&user=u&pass=PW",
    "http://user:PW@host",
    "user:PW@host",
    "redis:user:PW@host",
];

proptest! {
// Behaviour 71
    #[test]
    fn no_password_is_shown(form in proptest::sample::select(FORMS), password in password()) {
        let url = form.replace("PW", &password);
        let told = match parse(&url) {
            Ok(target) => format!("{target:?} {}", shown(&url)),
            Err(error) => format!("{error} {error:?} {} {:?}", error.value(), error.problem()),
        };
        prop_assert!(!told.contains(SECRET), "{url}: {told}");
    }
}
