//! What may be wrong on the command line and in the environment of a show.

use std::collections::BTreeSet;

use test_support::redis_server::RedisServer;

use crate::process::{Example, refusing_addr};

#[tokio::test]
async fn what_is_wrong_with_the_arguments_is_said_in_one_sentence() {
    let (_socket, nobody) = refusing_addr();
    let no_upstream = format!("--upstream http://{nobody}");
    let not_asked =
        format!("cannot ask the upstream: error sending request for url (http://{nobody}/stats)");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let serve_taken = format!("--serve {taken}");
    let in_use = format!("cannot listen on `{taken}`: Address already in use (os error 98)");
    let no_provider = format!("--provider http://{nobody}");
    let provider_not_asked = not_asked.replace("upstream", "provider");
    let no_service = format!("--call http://{nobody}");
    let not_reached = format!("cannot reach http://{nobody}: Connection refused (os error 111)");
    let name = "semaphore name is \"a{b}\"; allowed: 1 to 512 bytes without control characters and without { or }";
    let cases = [
        ("llm_gateway", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("llm_gateway", "serve", "unknown argument `serve`; try --help"),
        ("llm_gateway", "--limit", "--limit needs a value"),
        ("llm_gateway", "--limit 0", "--limit is `0`; it must be a whole number above 0"),
        ("llm_gateway", "--limit -1", "--limit is `-1`; it must be a whole number above 0"),
        (
            "llm_gateway",
            "--limit 5000000000",
            "--limit is `5000000000`; it must be a whole number above 0",
        ),
        ("llm_gateway", "--clients many", "--clients is `many`; it must be a whole number above 0"),
        ("llm_gateway", "--streams 0", "--streams is `0`; it must be a whole number above 0"),
        ("llm_gateway", "--max-wait 0.5", "--max-wait is `0.5`; it must be a whole number above 0"),
        ("llm_gateway", "--per-key 0", "--per-key is `0`; it must be a whole number above 0"),
        ("llm_gateway", "--keys x", "--keys is `x`; it must be a whole number above 0"),
        (
            "llm_gateway",
            "--outage maybe",
            "--outage is `maybe`; it must be closed, open or local:N with N above 0",
        ),
        (
            "llm_gateway",
            "--outage local:0",
            "--outage is `local:0`; it must be closed, open or local:N with N above 0",
        ),
        ("llm_gateway", "--name a{b}", name),
        ("llm_gateway", "--serve nonsense", "cannot listen on `nonsense`: invalid socket address"),
        (
            "llm_gateway",
            "--upstream-only 127.0.0.1",
            "cannot listen on `127.0.0.1`: invalid socket address",
        ),
        ("llm_gateway", &serve_taken, &in_use),
        ("llm_gateway", "--upstream foo", "--upstream is `foo`; it must be like http://host:port"),
        (
            "llm_gateway",
            "--upstream ftp://foo",
            "--upstream is `ftp://foo`; it must be like http://host:port",
        ),
        ("llm_gateway", &no_upstream, &not_asked),
        ("outbound_show", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("outbound_show", "--calls", "--calls needs a value"),
        ("outbound_show", "--callers 0", "--callers is `0`; it must be a whole number above 0"),
        (
            "outbound_show",
            "--provider foo",
            "--provider is `foo`; it must be like http://host:port",
        ),
        ("outbound_show", &no_provider, &provider_not_asked),
        ("tonic_service", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("tonic_service", "--name", "--name needs a value"),
        ("tonic_service", "--tokens 0", "--tokens is `0`; it must be a whole number above 0"),
        ("tonic_service", "--mount me", "--mount is `me`; it must be server or service"),
        (
            "tonic_service",
            "--serve nonsense",
            "cannot listen on `nonsense`: invalid socket address syntax",
        ),
        ("tonic_service", &serve_taken, &in_use),
        ("tonic_service", &no_service, &not_reached),
        ("worker_show", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("worker_show", "--jobs", "--jobs needs a value"),
        ("worker_show", "--workers 0", "--workers is `0`; it must be a whole number above 0"),
        ("worker_show", "--limit none", "--limit is `none`; it must be a whole number above 0"),
    ];
    for (name, args, sentence) in cases {
        let (code, out, err) = Example::start(name, args, None).end().await;
        assert_eq!((code, &*out, err), (Some(2), "", format!("{name}: {sentence}\n")), "{args}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_redis_is_said_in_one_sentence() {
    let redis = RedisServer::builder().password("the password").start().await;
    let (_socket, nobody) = refusing_addr();
    let cases = [
        ("nonsense".to_owned(), "url is \"***\"; allowed: redis://"),
        (String::new(), "url is \"\"; allowed: redis://"),
        (format!("http://{nobody}"), "allowed: redis://"),
        (format!("redis://:hush-hush@{nobody}"), "Connection refused"),
        (format!("redis://:hush-hush@{}", redis.addr()), "password"),
        (format!("redis://{}", redis.addr()), "password"),
    ];
    for (name, args) in [
        ("llm_gateway", ""),
        ("llm_gateway", "--serve 127.0.0.1:0"),
        ("outbound_show", ""),
        ("tonic_service", ""),
        ("tonic_service", "--serve 127.0.0.1:0"),
        ("worker_show", ""),
    ] {
        for (url, sentence) in &cases {
            if name == "llm_gateway"
                && args.contains("--serve")
                && *sentence == "Connection refused"
            {
                continue; // That may pass: it serves meanwhile.
            }
            let (code, out, err) = Example::start(name, args, Some(url.clone())).end().await;
            assert_eq!((code, &*out), (Some(2), ""), "{name} {args} with {url:?}: {err}");
            assert!(err.starts_with(&format!("{name}: REDIS_URL: ")), "{url:?}: {err}");
            assert!(err.contains(sentence), "{url:?}: {err}");
            assert_eq!(err.lines().count(), 1, "{url:?}: {err}");
            assert!(!err.contains("hush-hush") && !err.contains("panicked"), "{url:?}: {err}");
        }
    }
}

#[tokio::test]
async fn help_lists_every_option() {
    let gateway = "--serve --upstream --upstream-only --limit --per-key --name --max-wait \
        --outage --clients --keys --streams";
    let worker = "--jobs --workers --limit --name --job-ms --lease-ms";
    let service = "--serve --call --mount --limit --name --max-wait --clients --chats --tokens";
    let outbound = "--provider --provider-only --allowed --limit --name --callers --calls";
    let all = [
        ("llm_gateway", gateway),
        ("outbound_show", outbound),
        ("tonic_service", service),
        ("worker_show", worker),
    ];
    for (name, options) in all {
        let (code, out, err) = Example::start(name, "--help", None).end().await;
        assert_eq!((code, &*err), (Some(0), ""));
        assert!(out.contains(&format!("\n\nUsage: {name} [OPTIONS]\n\n")), "{out}");
        let listed: BTreeSet<_> = out
            .lines()
            .filter_map(|line| line.trim_start().trim_start_matches("-h, ").strip_prefix("--"))
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        let expected = options.split(' ').chain(["--help"]).map(|it| it[2..].to_owned()).collect();
        assert_eq!(listed, expected);
    }
}
