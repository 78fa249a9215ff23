//! The service as its clients and its init system see it: the program itself, on a port of its own.
//!
//! The load comes from wrk (`DULY_WRK` names it; else the one on PATH); without it that test says SKIPPED.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// What an answer that comes at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

struct Service {
    process: Child,
    output: BufReader<ChildStdout>,
    address: String,
    agent: ureq::Agent,
}

struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: String,
}

impl Service {
    fn start(options: &[&str]) -> Service {
        let mut process = Command::new(env!("CARGO_BIN_EXE_http"))
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        Service {
            process,
            output,
            address,
            agent,
        }
    }

    fn get(&self, path: &str, timeout_ms: u64) -> Answer {
        let mut answer = self
            .agent
            .get(format!("http://{}{path}", self.address))
            .header("x-timeout-ms", timeout_ms.to_string())
            .call()
            .unwrap();
        let retry_after = answer
            .headers()
            .get("retry-after")
            .map(|value| value.to_str().unwrap().to_owned());
        Answer {
            status: answer.status().as_u16(),
            retry_after,
            body: answer.body_mut().read_to_string().unwrap(),
        }
    }

    fn books(&self) -> impl Fn(&str) -> u64 + use<> {
        let books: Value = serde_json::from_str(&self.get("/stats", 20_000).body).unwrap();
        move |name| books[name].as_u64().unwrap()
    }

    fn eventually(&self, what: &str, done: impl Fn(&dyn Fn(&str) -> u64) -> bool) {
        let began = Instant::now();
        while !done(&self.books()) {
            assert!(began.elapsed() < Duration::from_secs(10), "never happened: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client that asks and does not wait for the answer, yet.
    fn ask(&self, path: &str) -> TcpStream {
        let mut client = TcpStream::connect(&self.address).unwrap();
        write!(
            client,
            "GET {path} HTTP/1.1\r\nhost: here\r\nx-timeout-ms: 30000\r\n\r\n"
        )
        .unwrap();
        client
    }

    /// Its next line.
    fn says(&mut self, start: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.starts_with(start), "{line}");
    }

    fn signal(&self, signal: i32) {
        // SAFETY: our child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    /// Its exit status and what it said last.
    fn end(mut self, within: Duration) -> (Option<i32>, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < within, "still there after {within:?}");
            thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn p02_a_request_past_its_time_is_answered_504() {
    let service = Service::start(&["--workers", "1"]);
    assert_eq!(service.get("/hash?text=duly&rounds=0", 20_000).body.len(), 64);
    let began = Instant::now();
    let late = service.get("/wait?ms=20000", 100);
    assert_eq!(late.status, 504, "{}", late.body);
    assert!(late.body.contains("wait"), "it names the task: {}", late.body);
    assert!(began.elapsed() >= Duration::from_millis(100) && began.elapsed() < SOON);
    // The callback was told: the one worker is free again.
    assert_eq!(service.get("/wait?ms=0", 5000).status, 200);
    assert_eq!(service.books()("deadline_exceeded"), 1);
}

#[test]
fn p04_a_full_queue_is_answered_503_at_once() {
    let service = Service::start(&["--workers", "1", "--capacity", "2"]);
    let busy = [(); 3].map(|()| {
        let asked = service.books()("submitted");
        let client = service.ask("/wait?ms=20000");
        service.eventually("it was accepted", |books| books("submitted") == asked + 1);
        service.eventually("it runs, if nobody else does", |books| books("running") == 1);
        client
    });
    let began = Instant::now();
    let refused = service.get("/wait?ms=0", 10_000);
    assert_eq!(
        (refused.status, refused.retry_after.as_deref()),
        (503, Some("1")),
        "{}",
        refused.body
    );
    assert!(
        refused.body.contains("queue_full") || refused.body.contains("full"),
        "{}",
        refused.body
    );
    assert!(began.elapsed() < SOON);
    drop(busy);
}

#[test]
fn p05_clients_that_leave_take_their_work_along() {
    let service = Service::start(&["--workers", "2", "--capacity", "4"]);
    let clients: Vec<_> = (0..6)
        .map(|n| {
            let client = service.ask("/wait?ms=20000");
            service.eventually("it was accepted", |books| books("submitted") == n + 1);
            service.eventually("the first two run", |books| books("running") == (n + 1).min(2));
            client
        })
        .collect();
    drop(clients);
    service.eventually("all were cancelled, and their places are free", |books| {
        books("cancelled") == 6 && books("queued") == 0 && books("running") == 0 && books("overdue") == 0
    });
    assert_eq!(service.get("/wait?ms=1", 5000).status, 200);
}

#[test]
fn p01_a_page_is_made_once_for_all_who_ask() {
    let service = Service::start(&["--workers", "2"]);
    thread::scope(|scope| {
        let patient: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| service.get("/page?name=a&ms=1500", 20_000)))
            .collect();
        service.eventually("it is being made", |books| books("submitted") == 1);
        // Its own time only.
        assert_eq!(service.get("/page?name=a&ms=1500", 100).status, 504);
        for client in patient {
            let page = client.join().unwrap();
            assert_eq!((page.status, &*page.body), (200, "<h1>a</h1>\n"));
        }
    });
    let kept = service.get("/page?name=a&ms=20000", 5000);
    assert_eq!((kept.status, service.books()("submitted")), (200, 1));
    // The last that waits takes the making along.
    assert_eq!(service.get("/page?name=b&ms=20000", 100).status, 504);
    service.eventually("nobody makes it", |books| {
        books("cancelled") == 1 && books("overdue") == 0
    });
}

#[test]
fn p14_sigterm_answers_what_was_accepted_and_refuses_the_rest() {
    let mut service = Service::start(&["--workers", "1", "--grace", "20"]);
    // Long enough to be seen running, also where the machine stands still for a moment.
    let mut accepted = service.ask("/wait?ms=4000");
    service.eventually("it runs", |books| books("running") == 1);
    // A connection from before, as the service listens no more.
    let mut late = TcpStream::connect(&service.address).unwrap();
    write!(late, "GET /wait?ms=0 HTTP/1.1\r\nhost: here\r\n").unwrap();
    service.signal(libc::SIGTERM);
    service.says("draining");
    // May be closed already: then it was not accepted either.
    let _ = write!(late, "\r\n");
    let mut answer = String::new();
    accepted.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut refused = String::new();
    let _ = late.read_to_string(&mut refused);
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503"), "{refused}");
    let (status, said) = service.end(Duration::from_secs(5));
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("drained"), "{said}");
}

#[test]
fn p14_sigterm_abandons_what_is_stuck_at_the_end_of_the_grace_period() {
    let service = Service::start(&["--workers", "1", "--grace", "0.3"]);
    let mut stuck = service.ask("/wait?ms=20000");
    service.eventually("it runs", |books| books("running") == 1);
    service.signal(libc::SIGTERM);
    let mut answer = String::new();
    stuck.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let (status, said) = service.end(SOON);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("abandoned: task `wait`"), "{said}");
}

/// wrk, which a test cannot do without: `None`, and a line that says so, where it is not.
fn wrk() -> Option<Command> {
    let path = env::var_os("DULY_WRK").unwrap_or_else(|| "wrk".into());
    let mut wrk = Command::new(path);
    wrk.stdout(Stdio::piped()).stderr(Stdio::piped());
    let there = wrk.arg("-v").output().is_ok();
    if !there {
        println!("SKIPPED: wrk is not here: apt-get install wrk");
        return None;
    }
    let path = wrk.get_program().to_owned();
    let mut wrk = Command::new(path);
    wrk.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(wrk)
}

/// The number in front of or behind a word of wrk's report.
fn figure(report: &str, pattern: &str) -> u64 {
    let Some(at) = report.find(pattern) else { return 0 };
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    if pattern.ends_with(':') {
        digits(report[at + pattern.len()..].lines().next().unwrap_or_default())
            .parse()
            .unwrap_or(0)
    } else {
        let line = report[..at].lines().next_back().unwrap_or_default();
        digits(line).parse().unwrap_or(0)
    }
}

#[test]
fn p14_sigterm_under_load_drains_within_the_grace_period() {
    let Some(mut wrk) = wrk() else { return };
    let service = Service::start(&["--workers", "2", "--capacity", "16", "--grace", "10"]);
    let url = format!("http://{}/hash?text=duly&rounds=500", service.address);
    let load = wrk
        .args(["-t2", "-c48", "-d60s", "--timeout", "60s", &url])
        .spawn()
        .unwrap();
    service.eventually("there is load, and more than the queue takes", |books| {
        books("succeeded") > 100 && books("refused") > 0
    });
    service.signal(libc::SIGTERM);
    let (status, said) = service.end(Duration::from_secs(11));
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("drained"), "{said}");
    // wrk reports when it is interrupted, too.
    // SAFETY: our child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(load.id() as i32, libc::SIGINT) }, 0);
    let output = load.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let (requests, refused) = (
        figure(&report, " requests in "),
        figure(&report, "Non-2xx or 3xx responses:"),
    );
    assert!(requests > 100 && refused > 0 && refused < requests, "{report}");
}
