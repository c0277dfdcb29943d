//! The server: the numbers of `engine predict` and `engine generate` over HTTP, for many at once, whoever else asks badly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread::scope;
use std::time::Duration;

use engine::datasets::npz::{Npz, write};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};

use crate::program::{PROGRAM, Running, eventually, run, started};
use crate::runner::tests;
use crate::vectors::data;

tests![
    answers_are_those_of_the_commands,
    many_at_once_are_not_mixed_up,
    lengths_in_turn_are_one_request,
    texts_are_those_of_the_command,
    texts_that_come_together_are_computed_together,
    slow_huge_and_cut_off_requests_keep_nobody_waiting,
    who_may_ask_is_looked_at,
    what_was_asked_is_finished_at_the_end,
    a_lost_device_is_opened_again,
    starts_that_cannot_be_are_refused,
];

/// A server with the address that it listens on.
pub(crate) struct Server {
    address: String,
    place: Place,
}

/// Where a server runs: in a process of its own, with the lines that it says, or in a thread of this one.
enum Place {
    Process(Child, Mutex<Receiver<String>>),
    Thread(Running),
}

const LISTENING: &str = "listening   http://";

/// The arguments with any port that is free; and unless a test is about time, no answer is too late, however slow the machine is.
fn patient<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let patience: &[&str] = if args.contains(&"--timeout") { &[] } else { &["--timeout", "1000"] };
    [&["serve"], args, &["--port", "0"], patience].concat()
}

impl Server {
    /// A server in this process, whose kernels are those that the test has compiled.
    pub(crate) fn within(args: &[&str]) -> Server {
        let running = Running::start(&patient(args));
        let address = || running.said().lines().find_map(|line| line.strip_prefix(LISTENING).map(String::from));
        eventually("the server listens or has ended", || address().is_some() || running.has_ended());
        let address = address().unwrap_or_else(|| panic!("the server ended: {}", running.said()));
        Server { address, place: Place::Thread(running) }
    }

    /// A server in a process of its own.
    pub(crate) fn start(args: &[&str], fault: Option<&str>) -> Server {
        let mut command = Command::new(PROGRAM);
        command.args(patient(args)).stderr(Stdio::piped()).stdout(Stdio::null());
        command.envs(fault.map(|fault| ("ENGINE_FAULT", fault)));
        let mut child = started(&mut command);
        let (lines, (say, said)) = (BufReader::new(child.stderr.take().unwrap()).lines(), channel());
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let mut before = vec![];
        let address = loop {
            let line = said.recv().unwrap_or_else(|_| panic!("the server ended: {before:?}"));
            if let Some(address) = line.strip_prefix(LISTENING) {
                break address.to_string();
            }
            before.push(line);
        };
        Server { address, place: Place::Process(child, said.into()) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address.replace("0.0.0.0", "127.0.0.1")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(600))).unwrap();
        stream
    }

    /// Sends a request with these further lines of its head, and gives status, head and body of the answer.
    pub(crate) fn ask(&self, method: &str, path: &str, head: &[&str], body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        let head = head.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n").unwrap();
        // Who is refused before the end of the body is told so all the same.
        let _ = stream.write_all(body);
        answer(stream)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("GET", path, &[], b"");
        (status, String::from_utf8(body).unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, _, body) = self.ask("POST", path, &["Content-Type: application/json"], body.as_bytes());
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// What the server counts as this.
    fn counted(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or_else(|| panic!("no {series} in {text}"))
    }

    fn terminate(&self) {
        match &self.place {
            Place::Process(child, _) => {
                // SAFETY: the process is a child that has not been waited for.
                unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            }
            Place::Thread(running) => running.stop(),
        }
    }

    /// Its exit code and what it has said since it listens.
    fn ended(self) -> (Option<i32>, String) {
        match self.place {
            Place::Process(mut child, said) => {
                let code = child.wait().unwrap().code();
                (code, said.into_inner().unwrap().iter().collect::<Vec<_>>().join("\n"))
            }
            Place::Thread(running) => {
                let (code, said) = running.ended();
                let since = said.split_once(&self.address).map_or(&*said, |(_, since)| since);
                (Some(code), since.trim().into())
            }
        }
    }

    pub(crate) fn end(self) -> (Option<i32>, String) {
        self.terminate();
        self.ended()
    }
}

/// Status, head and body of the answer that a connection has until its end.
fn answer(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut bytes = vec![];
    // A connection that is reset has what came before.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    (head[9..12].parse().unwrap(), head, bytes[end + 4..].to_vec())
}

fn succeeds(args: &[&str]) -> String {
    let (code, text, said) = run(args);
    assert_eq!(code, 0, "{args:?}: {said}");
    text
}

/// A run on contexts of 3 vectors of 4.
fn vectors(folder: &Path) -> String {
    let file = format!("data.file={}", data(&folder.join("data.npz"), 96, |_, _| {}));
    let out = folder.join("vectors").display().to_string();
    let set = [file.as_str(), "train.batch=16", "abort_if=[]", "model.hidden=16"].map(|set| ["--set", set]).concat();
    succeeds(&[&["train", "data/runs/lvm_mlp.toml", "--out", &out, "--steps", "3"], &set[..]].concat());
    out
}

/// A run on sequences of 8 numbers below 32.
fn sequences(folder: &Path) -> String {
    let out = folder.join("sequences").display().to_string();
    let set = ["data.context=8", "data.values=32", "train.batch=4", "train.steps_per_epoch=2", "validation.sequences=10", "model.layers=1"];
    let set = set.map(|set| ["--set", set]).concat();
    succeeds(&[&["train", "data/runs/integer_sequences_d64.toml", "--out", &out, "--steps", "2"], &set[..]].concat());
    out
}

/// A run on a text by bytes, of which some are parts of characters.
fn text(folder: &Path) -> String {
    let (file, out) = (folder.join("bears.txt"), folder.join("text").display().to_string());
    std::fs::write(&file, "Der Bär aß süße Beeren; ".repeat(100)).unwrap();
    let file = format!("data.file={}", file.display());
    let set = ["data.tokenizer=bytes", "data.vocabulary=256", "data.context=32", "model.d_model=16", "model.heads=2", "model.layers=1"];
    let more = ["train.batch=4", "train.steps_per_epoch=2", "train.epochs=1", &file];
    let set: Vec<&str> = set.iter().chain(&more).flat_map(|set| ["--set", *set]).collect();
    succeeds(&[&["train", "data/runs/gpt_cpu.toml", "--out", &out], &set[..]].concat());
    out
}

/// A run on a table with words.
fn table(folder: &Path) -> String {
    let (file, out) = (folder.join("iris.toml").display().to_string(), folder.join("iris").display().to_string());
    succeeds(&["new", "--data", "data/samples/iris.csv", "--target", "species", "--out", &file]);
    succeeds(&["train", &file, "--out", &out, "--set", "train.epochs=1"]);
    out
}

/// A context of 3 vectors of 4, as numbers and as JSON.
fn context(seed: usize) -> (Vec<f32>, String) {
    let values: Vec<f32> = (0..12).map(|i| ((seed * 12 + i) as f32 * 0.7).sin()).collect();
    let text = serde_json::to_string(&values.chunks(4).collect::<Vec<_>>()).unwrap();
    (values, text)
}

/// What `engine predict` writes for lines of JSON.
fn predicted(folder: &Path, out: &str, lines: &str, more: &[&str]) -> String {
    let file = folder.join("in.jsonl");
    std::fs::write(&file, lines).unwrap();
    succeeds(&[&["predict", out, "--data", file.to_str().unwrap()], more].concat())
}

const IRIS: &str = "{\"sepal_length\":5.0,\"sepal_width\":3.4,\"petal_length\":1.5,\"petal_width\":0.2,\"id\":\"a\"}\n\
                    {\"sepal_length\":6.0,\"sepal_width\":2.9,\"petal_length\":4.5,\"petal_width\":1.5}\n";

fn answers_are_those_of_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (vectors, sequences, table) = (vectors(folder.path()), sequences(folder.path()), table(folder.path()));
    let server = Server::within(&[&vectors, &format!("numbers={sequences}"), &table]);
    // One sample, several in lines, and arrays.
    let (values, one) = context(5);
    let want = predicted(folder.path(), &vectors, &one, &[]);
    let (status, got) = server.post("/v1/runs/vectors/predict", &one);
    assert_eq!((status, got), (200, serde_json::from_str(&want).unwrap()));
    let lines = ["Content-Type: application/x-ndjson"];
    let (status, head, got) = server.ask("POST", "/v1/runs/iris/predict?probabilities=true", &lines, IRIS.as_bytes());
    assert_eq!((status, String::from_utf8(got).unwrap()), (200, predicted(folder.path(), &table, IRIS, &["--probabilities"])));
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    let all: Vec<f32> = (0..100).flat_map(|seed| context(seed).0).collect();
    assert_eq!(all[60..72], values);
    write(&path("in.npz"), &[("contexts", &[100, 3, 4], &all)]).unwrap();
    succeeds(&["predict", &vectors, "--data", path("in.npz").to_str().unwrap(), "--out", path("want.npz").to_str().unwrap()]);
    let zip = ["Content-Type: application/x-npz"];
    let (status, _, got) = server.ask("POST", "/v1/runs/vectors/predict", &zip, &std::fs::read(path("in.npz")).unwrap());
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&got));
    std::fs::write(path("got.npz"), got).unwrap();
    let array = |file: &str, name: &str| Npz::open(&path(file)).unwrap().array(name).unwrap();
    assert_eq!(array("got.npz", "outputs"), array("want.npz", "outputs"));
    assert_eq!(array("got.npz", "sample"), array("want.npz", "sample"));
    let accept = ["Content-Type: application/x-npz", "Accept: application/json"];
    let (_, _, got) = server.ask("POST", "/v1/runs/vectors/predict", &accept, &std::fs::read(path("in.npz")).unwrap());
    let got: Vec<Value> = serde_json::from_slice(&got).unwrap();
    assert!(got.len() == 100 && got[5]["output"] == serde_json::from_str::<Value>(&want).unwrap()["output"], "{:?}", got[5]);
    // Sequences, whole and number by number.
    let text = succeeds(&["generate", &sequences, "--prompt", "1,2,4", "--count", "9", "--json"]);
    let want: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(server.post("/v1/runs/numbers/generate", "{\"prompt\":[1,2,4],\"count\":9}"), (200, want.clone()));
    let drawn = succeeds(&["generate", &sequences, "--prompt", "1,2,4", "--temperature", "1.5", "--seed", "7", "--json"]);
    let asked = "{\"prompt\":[1,2,4],\"temperature\":1.5,\"seed\":7}";
    assert_eq!(server.post("/v1/runs/numbers/generate", asked), (200, serde_json::from_str(&drawn).unwrap()));
    let beams = succeeds(&["generate", &sequences, "--prompt", "1,2,4", "--beam", "3", "--json"]);
    assert_eq!(
        server.post("/v1/runs/numbers/generate", "{\"prompt\":[1,2,4],\"beam\":3}").1,
        serde_json::from_str::<Value>(&beams).unwrap()
    );
    let (status, head, events) =
        server.ask("POST", "/v1/runs/numbers/generate", &["Accept: text/event-stream"], b"{\"prompt\":[1,2,4],\"count\":9}");
    let events = String::from_utf8(events).unwrap();
    assert!(status == 200 && head.contains("text/event-stream"), "{head}");
    let data: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let numbers: Vec<Value> = data[..9].iter().map(|event| event["number"].clone()).collect();
    assert!(json!(numbers) == want["generated"] && data[9]["generated"] == want["generated"] && data.len() == 10, "{events}");
    assert!(events.contains("event: end"), "{events}");
    describes_itself(&server);
    refuses_what_is_wrong(&server);
    assert_eq!(server.end(), (Some(0), "ended; all that was asked is answered".into()));
}

/// Whole texts and streams of them, the limits, and what is wrong.
fn texts_are_those_of_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let (text, numbers) = (text(folder.path()), sequences(folder.path()));
    let server = Server::within(&[&text, &numbers, "--max-prompt", "100"]);
    let path = "/v1/runs/text/generate";
    // With fewer tokens than the model sees and with more, drawn from all and from some, and the most probable.
    for (options, asked) in [
        (&["--tokens", "9", "--seed", "3"][..], json!({ "tokens": 9, "seed": 3 })),
        (
            &["--tokens", "60", "--top-k", "40", "--top-p", "0.9", "--temperature", "1.5"],
            json!({ "count": 60, "top_k": 40, "top_p": 0.9, "temperature": 1.5 }),
        ),
        (&["--tokens", "40", "--temperature", "0"], json!({ "tokens": 40, "temperature": 0 })),
        (&["--tokens", "12", "--beam", "3"], json!({ "tokens": 12, "beam": 3 })),
        (&["--tokens", "60", "--stop", "r"], json!({ "tokens": 60, "stop": "r" })),
        (&[], json!({})),
    ] {
        let told = succeeds(&[&["generate", &text, "--prompt", "Der Bär", "--json"], options].concat());
        let of_command: Value = serde_json::from_str(&told).unwrap();
        let mut asked = asked;
        asked["prompt"] = "Der Bär".into();
        let (status, got) = server.post(path, &asked.to_string());
        assert_eq!((status, &got["text"], &got["prompt"]), (200, &of_command["texts"][0], &json!("Der Bär")), "{asked}");
        // The events are whole characters, and together the text.
        asked["stream"] = true.into();
        let (status, _, events) = server.ask("POST", path, &[], asked.to_string().as_bytes());
        let events = String::from_utf8(events).unwrap();
        let data: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
        let (last, parts) = data.split_last().unwrap();
        let joined: String = parts.iter().map(|part| part["text"].as_str().unwrap()).collect();
        assert!(status == 200 && events.contains("event: end") && json!(joined) == got["text"] && last["text"] == got["text"], "{events}");
    }
    let about: Value = serde_json::from_str(&server.get("/v1/runs").1).unwrap();
    assert!(about["runs"][0]["text"] == true && about["runs"][1]["text"] == false, "{about}");
    let long = json!({ "prompt": "a".repeat(101) }).to_string();
    for (path, body, status, says) in [
        (path, "{\"prompt\":\"\"}", 422, "prompt: it is empty"),
        (path, "{\"prompt\":[1]}", 422, "`text` continues texts: give a string"),
        (path, "{\"prompt\":1}", 422, "prompt: give a text, or a list of integers"),
        (path, "{\"prompt\":\"a\"", 400, "no JSON"),
        (path, "{\"prompt\":\"a\",\"top_k\":0}", 422, "top_k = 0"),
        (path, "{\"prompt\":\"a\",\"top_p\":1.5}", 422, "top_p 1.5 is out of range"),
        (path, "{\"prompt\":\"a\",\"temperature\":-1}", 422, "temperature -1 is out of range"),
        (path, "{\"prompt\":\"a\",\"beam\":2,\"top_k\":2}", 422, "not both"),
        (path, "{\"prompt\":\"a\",\"tokens\":2000}", 422, "from 1 to 1024"),
        (path, &long, 413, "101 numbers or tokens, and 100 are taken"),
        ("/v1/runs/sequences/generate", "{\"prompt\":\"1,2\"}", 422, "continues numbers, as in [1, 2, 4]"),
        ("/v1/runs/sequences/generate", "{\"prompt\":[1],\"stop\":\"a\"}", 422, "stop is for runs on text"),
    ] {
        let (got, text) = server.post(path, body);
        assert!(got == status && text["error"]["message"].as_str().unwrap().contains(says), "{body}: {got} {text}");
    }
    let doc = server.get("/openapi.json").1;
    assert!(["top_p", "temperature", "stop", "Text to continue"].iter().all(|word| doc.contains(word)), "{doc}");
    assert_eq!(server.end().0, Some(0));
}

/// Eight askers of texts of unequal lengths, some of which go away: each has what it would have alone.
fn texts_that_come_together_are_computed_together() {
    let folder = tempfile::tempdir().unwrap();
    let text = text(folder.path());
    let server = Server::within(&[&text]);
    let asked = |n: usize| {
        json!({ "prompt": "Der Bär aß"[..1 + n].to_string(), "tokens": 40 + n, "seed": n, "stream": n.is_multiple_of(2) }).to_string()
    };
    let of = |n: usize| {
        let (status, _, body) = server.ask("POST", "/v1/runs/text/generate", &[], asked(n).as_bytes());
        (status, String::from_utf8(body).unwrap())
    };
    let alone: Vec<(u16, String)> = (0..5).map(of).collect();
    let together: Vec<(u16, String)> = scope(|scope| {
        let leaving = scope.spawn(|| {
            let mut stream = server.connect();
            let body = asked(0);
            write!(stream, "POST /v1/runs/text/generate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        });
        let threads: Vec<_> = (0..5).chain(0..5).map(|n| scope.spawn(move || of(n))).collect();
        leaving.join().unwrap();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(alone.iter().all(|(status, _)| *status == 200), "{alone:?}");
    assert_eq!(together[..5], alone[..]);
    assert_eq!(together[5..], alone[..]);
    let of_group = |what: &str| server.counted(&format!("engine_batch_sequences_{what}{{run=\"text\"}}"));
    assert!(of_group("sum") >= 15.0 && of_group("count") < of_group("sum"), "{} {}", of_group("sum"), of_group("count"));
    assert_eq!(server.end().0, Some(0));
}

/// Runs, document and metrics.
fn describes_itself(server: &Server) {
    let runs: Value = serde_json::from_str(&server.get("/v1/runs").1).unwrap();
    let names: Vec<&str> = runs["runs"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["vectors", "numbers", "iris"]);
    let iris: Value = serde_json::from_str(&server.get("/v1/runs/iris").1).unwrap();
    assert_eq!(iris["takes"][0]["columns"], json!(["sepal_length", "sepal_width", "petal_length", "petal_width"]));
    assert_eq!(iris["gives"]["words"], json!(["setosa", "versicolor", "virginica"]));
    assert!(runs["runs"][1]["generates"] == true && iris["generates"] == false && runs["runs"][0]["takes"][0]["shape"] == json!([3, 4]));
    // Every path of the document is there, and no other.
    let doc: Value = serde_json::from_str(&server.get("/openapi.json").1).unwrap();
    let paths = doc["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let path = path.replace("{name}", "vectors");
        for method in ["get", "post"] {
            let (status, _, _) = server.ask(&method.to_uppercase(), &path, &[], b"");
            assert_eq!(methods.get(method).is_some(), status != 405 && status != 404, "{method} {path}: {status}");
        }
    }
    assert_eq!(doc["openapi"], "3.1.0");
    let (_, text) = server.get("/metrics");
    let counted = text.lines().filter_map(|line| line.strip_prefix("engine_requests_total{path=\"")?.split('"').next());
    assert!(counted.clone().all(|path| path == "other" || paths.contains_key(path)), "{:?}", counted.collect::<Vec<_>>());
    assert_eq!(server.counted("engine_requests_total{path=\"/v1/runs/{name}/predict\",status=\"200\"}"), 4.0);
    assert_eq!(server.counted("engine_batch_samples_sum{run=\"vectors\"}"), 201.0);
    assert_eq!(server.counted("engine_queued{run=\"numbers\",for=\"generate\"}"), 0.0);
    assert!(server.get("/health").0 == 200 && server.get("/ready").0 == 200);
}

fn refuses_what_is_wrong(server: &Server) {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let (predict, generate) = ("/v1/runs/vectors/predict", "/v1/runs/numbers/generate");
    for (method, path, kind, body, status, says) in [
        ("GET", "/v1/run", "", "", 404, "no such path"),
        ("POST", "/v1/runs/none/predict", "application/json", "[]", 404, "no run `none`. There are `vectors`, `numbers`, `iris`"),
        ("GET", "/v1/runs/%ff", "", "", 400, "Invalid UTF-8"),
        ("GET", predict, "", "", 405, "another method"),
        ("POST", predict, "text/plain", "[]", 415, "no body of Content-Type \\\"text/plain\\\""),
        ("POST", predict, "application/json", "[[1,2", 400, "the body: no JSON"),
        ("POST", predict, "application/json", &deep, 400, "recursion limit"),
        ("POST", predict, "application/json", "", 400, "the body: no JSON"),
        ("POST", predict, "application/json", "[[1,2,3,4],[1,2,3]]", 422, "lists that are of different lengths"),
        ("POST", predict, "application/json", "[[1,2,3,4]]", 422, "the model takes `context` of [3, 4]"),
        ("POST", predict, "application/json", "{\"x\":1}", 422, "no input `x`"),
        ("POST", "/v1/runs/vectors/predict?probable=1", "application/json", "[]", 400, "?probabilities=true"),
        ("POST", "/v1/runs/vectors/predict?probabilities=true", "application/json", &context(0).1, 422, "tells no classes apart"),
        ("POST", predict, "application/x-ndjson", "\n\n", 400, "there is no sample"),
        ("POST", predict, "application/x-ndjson", "[[1,2,3,4],[1,2,3,4],[1,2,3,4]]\n[", 400, "line 2: no JSON"),
        ("POST", predict, "application/x-npz", "PK", 422, "the body"),
        ("POST", "/v1/runs/numbers/predict", "application/json", "[1,2,3,4,5,6,7,32]", 422, "32 is no integer from 0 to 31"),
        ("POST", "/v1/runs/iris/generate", "application/json", "{\"prompt\":[1]}", 422, "continues no sequences"),
        ("POST", generate, "application/json", "{\"prompt\":[]}", 422, "prompt []: give at least one number"),
        ("POST", generate, "application/json", "{\"prompt\":[32]}", 422, "each from 0 to 31"),
        ("POST", generate, "application/json", "{\"prompt\":[1],\"count\":5000}", 422, "from 1 to 1024"),
        ("POST", generate, "application/json", "{\"prompt\":[1],\"token\":5}", 422, "unknown field"),
        ("POST", generate, "application/json", "{\"prompt\":[1],\"beam\":2,\"temperature\":1}", 422, "not both"),
    ] {
        let kind = format!("Content-Type: {kind}");
        let (got, _, text) = server.ask(method, path, &[&kind], body.as_bytes());
        let text = String::from_utf8(text).unwrap();
        assert!(got == status && text.contains(says), "{path} {body:.20}: {got} {text}");
        let error: Value = serde_json::from_str(&text).unwrap();
        assert!(error["error"]["status"] == status && !text.contains("/tmp"), "{text}");
    }
}

fn many_at_once_are_not_mixed_up() {
    const CLIENTS: usize = 24;
    const EACH: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let out = vectors(folder.path());
    let lines: String = (0..CLIENTS * EACH).map(|seed| context(seed).1 + "\n").collect();
    let want: Vec<Value> = predicted(folder.path(), &out, &lines, &[])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["output"].clone())
        .collect();
    let server = Server::within(&[&out, "--batch", "16"]);
    scope(|scope| {
        for client in 0..CLIENTS {
            let (server, want) = (&server, &want);
            scope.spawn(move || {
                for seed in (0..EACH).map(|n| n * CLIENTS + client) {
                    // Between them, requests that the model refuses.
                    if seed % 7 == 0 {
                        assert_eq!(server.post("/v1/runs/vectors/predict", "[[1,2,3,4],[1,2,3,4],[1,2,3,1e39]]").0, 422);
                    }
                    let (status, got) = server.post("/v1/runs/vectors/predict", &context(seed).1);
                    assert!(status == 200 && got["output"] == want[seed], "{seed}: {status} {got}");
                }
            });
        }
    });
    // Who comes while a batch is computed shares the next one.
    let (samples, batches) =
        (server.counted("engine_batch_samples_sum{run=\"vectors\"}"), server.counted("engine_batch_samples_count{run=\"vectors\"}"));
    assert!(samples >= (CLIENTS * EACH) as f64 && batches < samples, "{samples} samples in {batches} batches");
    assert_eq!(server.end().0, Some(0));
}

/// Samples of lengths in turn are one request: they take one place in the queue, and their answers are in their order, as from the
/// command. A refusal names the line.
fn lengths_in_turn_are_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("data.file={}", data(&folder.path().join("data.npz"), 96, |_, _| {}));
    let out = folder.path().join("lstm").display().to_string();
    let set = [file.as_str(), "train.batch=16", "abort_if=[]", "model.hidden=8", "model.layers=1"].map(|set| ["--set", set]).concat();
    succeeds(&[&["train", "data/runs/lvm_lstm.toml", "--out", &out, "--steps", "1"], &set[..]].concat());
    let lines: String = (0..60).map(|i| format!("{:?}\n", vec![[0.1 * i as f32, 0.2, -0.3, 0.4]; 2 + i % 3])).collect();
    let want = predicted(folder.path(), &out, &lines, &[]);
    let server = Server::within(&[&out, "--queue", "1"]);
    let (status, _, got) = server.ask("POST", "/v1/runs/lstm/predict", &["Content-Type: application/x-ndjson"], lines.as_bytes());
    assert_eq!((status, String::from_utf8(got).unwrap()), (200, want));
    let wrong = "[[1,2,3,4]]\n\n[[1,2,3]]\n";
    let (status, _, got) = server.ask("POST", "/v1/runs/lstm/predict", &["Content-Type: application/x-ndjson"], wrong.as_bytes());
    let got = String::from_utf8(got).unwrap();
    assert!(status == 422 && got.contains("from line 3: "), "{status} {got}");
    let (status, got) = server.post("/v1/runs/lstm/predict", "[{\"context\": [[1,2,3,4]]}]");
    assert!(status == 422 && got.to_string().contains("one a line, as application/x-ndjson"), "{status} {got}");
    assert_eq!(server.end().0, Some(0));
}

/// An archive with an array of so many zeros, which is much shorter than they are.
fn packed_zeros(count: u32) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 3, 4), }}", count / 12);
    let array = [b"\x93NUMPY\x01\x00\x76\x00", format!("{header:<117}\n").as_bytes(), &vec![0; 4 * count as usize]].concat();
    let mut packer = DeflateEncoder::new(vec![], Compression::best());
    packer.write_all(&array).unwrap();
    let packed = packer.finish().unwrap();
    // What both records of a member share: version, flags, method, time, checksum, sizes and lengths of name and extra field.
    let name = b"contexts.npy";
    let sizes = [crc32fast::hash(&array), packed.len() as u32, array.len() as u32].map(u32::to_le_bytes).concat();
    let both = [&[20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0], &sizes[..], &[name.len() as u8, 0, 0, 0]].concat();
    let local = [b"PK\x03\x04", &both[..], name, &packed].concat();
    let central = [b"PK\x01\x02\x14\x00", &both[..], &[0; 14], name].concat();
    let ends = [central.len() as u32, local.len() as u32].map(u32::to_le_bytes).concat();
    [&local[..], &central, b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00", &ends, &[0; 2]].concat()
}

fn slow_huge_and_cut_off_requests_keep_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let out = vectors(folder.path());
    let server = Server::within(&[&out, "--timeout", "2", "--max-body", "4KiB", "--max-samples", "20"]);
    let (path, normal) = ("/v1/runs/vectors/predict", context(1).1);
    // Connections that send nothing, one that sends half a head, one that sends half a body and one that goes after that.
    let silent: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    let mut half = server.connect();
    half.write_all(b"POST /v1/runs/vectors/predict HT").unwrap();
    let start = "POST /v1/runs/vectors/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n[[1";
    let mut slow = server.connect();
    slow.write_all(start.as_bytes()).unwrap();
    let mut gone = server.connect();
    gone.write_all(start.as_bytes()).unwrap();
    drop(gone);
    assert_eq!(server.post(path, &normal).0, 200);
    assert!(server.counted("engine_connections") > 100.0);
    // Too much at once: by its length, without one, by what is packed, and by the number of samples.
    let long = format!("[{}]", "1,".repeat(4000));
    assert_eq!(server.ask("POST", path, &[], long.as_bytes()).0, 413);
    let mut stream = server.connect();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("1000\r\n{}\r\n", "1".repeat(4096));
    let _ = stream.write_all([head, chunk.repeat(2)].concat().as_bytes());
    assert_eq!(answer(stream).0, 413);
    let packed = packed_zeros(12_000);
    assert!(packed.len() < 4096, "{} bytes", packed.len());
    let (status, _, text) = server.ask("POST", path, &["Content-Type: application/x-npz"], &packed);
    assert!(status == 413 && String::from_utf8_lossy(&text).contains("the arrays in the body"), "{status}");
    let (status, _, text) = server.ask("POST", path, &["Content-Type: application/x-ndjson"], "[]\n".repeat(21).as_bytes());
    assert!(status == 413 && String::from_utf8_lossy(&text).contains("20 samples at most"), "{status}");
    // What is no HTTP, and a head without an end.
    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").unwrap();
    assert_eq!(answer(stream).0, 400);
    let mut stream = server.connect();
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(1 << 20)).as_bytes());
    assert_eq!(answer(stream).0, 431);
    // In time those that are slow are refused, and the others are closed.
    let (status, _, text) = answer(slow);
    assert!(status == 408 && String::from_utf8_lossy(&text).contains("has not arrived within 2s"), "{status}");
    let _ = half.shutdown(Shutdown::Write);
    drop(half);
    drop(silent);
    eventually("those who are silent are let go", || server.counted("engine_connections") <= 1.0);
    assert_eq!(server.post(path, &normal).0, 200);
    assert_eq!(server.end().0, Some(0));
}

fn who_may_ask_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let out = vectors(folder.path());
    let token = folder.path().join("token");
    std::fs::write(&token, "a-long-and-secret-token\n").unwrap();
    let server = Server::within(&[&out, "--token-file", token.to_str().unwrap(), "--rate", "4"]);
    let runs = |token: &str| server.ask("GET", "/v1/runs", &[&format!("Authorization: Bearer {token}")], b"");
    assert!(server.get("/health").0 == 200 && server.get("/ready").0 == 200);
    assert_eq!((server.get("/v1/runs").0, runs("a-long-and-secret-tokem").0, runs("a-long-and-secret-token").0), (401, 401, 200));
    // More than the rate allows, one after another as fast as it goes.
    let answers: Vec<(u16, String, Vec<u8>)> = (0..40).map(|_| runs("a-long-and-secret-token")).collect();
    let refused = answers.iter().find(|(status, ..)| *status == 429).expect("a refusal");
    assert!(
        refused.1.contains("retry-after: 1") && String::from_utf8_lossy(&refused.2).contains("more than 4 requests a second"),
        "{refused:?}"
    );
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(server.end().0, Some(0));
}

fn what_was_asked_is_finished_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let out = sequences(folder.path());
    let server = Server::start(&[&out, "--queue", "1", "--host", "0.0.0.0"], None);
    // One is continued, one waits, and there is no room for the others.
    let ask = || {
        let mut stream = server.connect();
        let body = "{\"prompt\":[1,2,4],\"count\":60,\"stream\":true}";
        let head = format!("POST /v1/runs/sequences/generate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all([head.as_str(), body].concat().as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).map(|()| (first[9..].to_vec(), stream))
    };
    let streams: Vec<(Vec<u8>, TcpStream)> = scope(|scope| {
        (0..6).map(|_| scope.spawn(|| ask().unwrap())).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(streams.iter().any(|(status, _)| status == b"503") && streams.iter().any(|(status, _)| status == b"200"));
    let (_, mut last) = ask().unwrap();
    // Who has sent nothing, or half a head, keeps nobody waiting.
    let mut silent: Vec<TcpStream> = (0..5).map(|_| server.connect()).collect();
    silent[0].write_all(b"GET /hea").unwrap();
    assert_eq!(server.get("/health").0, 200);
    server.terminate();
    let mut rest = String::new();
    last.read_to_string(&mut rest).unwrap();
    assert!(rest.matches("data: {\"number\":").count() == 60 && rest.contains("event: end"), "{rest}");
    for (status, mut stream) in streams {
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest);
        let whole = if status == b"200" {
            rest.contains("event: end")
        } else {
            rest.contains("too many requests wait") && rest.contains("retry-after: 1")
        };
        assert!(whole, "{rest}");
    }
    let (code, said) = server.ended();
    assert!(code == Some(0) && said.contains("all that was asked is answered"), "{code:?} {said}");
    drop(silent);
}

fn a_lost_device_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = vectors(folder.path());
    let lines: String = (0..8).map(|seed| context(seed).1 + "\n").collect();
    let want = predicted(folder.path(), &out, &lines, &[]);
    // At its second batch, where a batch is a submission and a copy.
    let server = Server::start(&[&out], Some("lost:4"));
    for (seed, line) in want.lines().enumerate() {
        let (status, got) = server.post("/v1/runs/vectors/predict", &context(seed).1);
        let want: Value = serde_json::from_str(line).unwrap();
        assert!(status == 200 && got["output"] == want["output"], "{seed}: {status} {got}");
    }
    assert_eq!(server.get("/ready").0, 200);
    let (code, said) = server.end();
    assert!(code == Some(0) && said.contains("It is opened again, 1 of at most 3 times"), "{code:?} {said}");
    // One that is lost for good: it is said, and the server ends as it should.
    let server = Server::start(&[&out], Some("lost:4+"));
    eventually("the device is lost", || server.post("/v1/runs/vectors/predict", &context(0).1).0 == 503);
    eventually("the server says so", || server.get("/ready").0 == 503);
    let (status, head, _) = server.ask("POST", "/v1/runs/vectors/predict", &[], context(0).1.as_bytes());
    assert!(status == 503 && head.contains("retry-after: 1"), "{head}");
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(server.end().0, Some(0));
}

fn starts_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = vectors(folder.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let short = folder.path().join("short");
    std::fs::write(&short, "abc\n").unwrap();
    let short = short.to_str().unwrap();
    let again = format!("vectors={out}");
    for (args, code, says) in [
        (vec!["serve", &out, "--port", &port], 73, "cannot listen on 127.0.0.1:"),
        (vec!["serve", &out, &again, "--port", "0"], 2, "two runs are called `vectors`"),
        (vec!["serve", "nowhere", "--port", "0"], 66, "nowhere is no run folder"),
        (vec!["serve", &out, "--rate", "0", "--port", "0"], 2, "--rate 0 is out of range"),
        (vec!["serve", &out, "--timeout", "nan", "--port", "0"], 2, "--timeout NaN is out of range"),
        (vec!["serve", &out, "--token-file", short, "--port", "0"], 2, "a token has at least 16 letters"),
        (vec!["serve", &out, "--token-file", "no-token", "--port", "0"], 66, "no-token"),
    ] {
        let (got, _, text) = run(&args);
        assert!(got == code && text.contains(says), "{args:?}: {got} {text}");
    }
}
