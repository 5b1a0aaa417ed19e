//! What the program leaves in files, and on its outputs, where they fail or others write too.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tilewise::tensor::write_safetensors;

use crate::support::inputs;

const SPEC: &str = r#"{"op": "attention", "batch": 1, "q_heads": 1, "seq_len_q": 3, "seq_len_kv": 5, "head_dim": 8}"#;

/// A problem that is measured at once.
const SMALL: &str = r#"{"op": "matmul", "rows": 3, "columns": 5, "inner": 8}"#;

fn program(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewise"));
    command.env("TILEWISE_CACHE", cache);
    command
}

fn told(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn tunings(names: std::ops::Range<usize>) -> Value {
    let entry = |name: usize| {
        let key = json!({"adapter": "a", "driver": "d", "version": "0.1.0", "kernels": "0", "problem": format!("p{name}")});
        json!({"key": key, "tuning": {"tiles": {}, "timings": []}})
    };
    json!({"tilewise_tunings": 1, "entries": names.map(entry).collect::<Vec<_>>()})
}

/// The problems of the one file of tunings in a folder.
fn stored(folder: &Path) -> Vec<String> {
    let file = names(folder).into_iter().find(|name| name.ends_with(".json")).unwrap();
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let entries = value["entries"].as_array().unwrap().iter();
    entries.map(|entry| entry["key"]["problem"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn importers_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let importers: Vec<_> = (0..8)
        .map(|index| {
            let file = folder.path().join(format!("{index}.json"));
            std::fs::write(&file, tunings(index..index + 1).to_string()).unwrap();
            let mut command = program(&cache);
            command.args(["tune", "--import"]).arg(&file).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut importer in importers {
        assert!(importer.wait().unwrap().success());
    }
    let all: Vec<String> = (0..8).map(|index| format!("p{index}")).collect();
    assert_eq!(stored(&cache), all);
}

#[cfg(unix)]
#[test]
fn tunings_that_users_share_can_be_read_by_all_and_unreadable_ones_are_not_replaced() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let (cache, file) = (folder.path().join("cache"), folder.path().join("in.json"));
    std::fs::write(&file, tunings(0..1).to_string()).unwrap();
    let import = || told(program(&cache).args(["tune", "--import"]).arg(&file));
    assert_eq!(import().0, Some(0));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for name in names(&cache) {
        assert_eq!(mode(&cache.join(&name)), mode(&file), "{name}");
    }
    let store = names(&cache).into_iter().find(|name| name.ends_with(".json")).unwrap();
    std::fs::remove_file(cache.join(&store)).unwrap();
    std::fs::create_dir(cache.join(&store)).unwrap();
    let (code, message) = import();
    assert!(code == Some(1) && message.contains("directory"), "{message}");
}

#[test]
fn what_was_there_stays_where_an_output_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_safetensors(&path("in"), &inputs([1, 1, 1, 3, 5, 8])).unwrap();
    std::fs::create_dir(path("taken")).unwrap();
    let run = |output: &Path| {
        told(
            program(Path::new(""))
                .args(["run", SPEC, "--backend", "cpu", "--input"])
                .arg(path("in"))
                .arg("--output")
                .arg(output),
        )
    };
    let before = names(folder.path());
    let (code, message) = run(&path("taken"));
    assert!(code == Some(1) && message.contains("taken: "), "{message}");
    let (code, message) = run(&path("no/such/folder"));
    assert!(code == Some(1) && message.contains("no/such/folder: "), "{message}");
    assert_eq!(names(folder.path()), before);
    assert_eq!(run(&path("out")).0, Some(0));
    assert_eq!(names(folder.path()).len(), before.len() + 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_of_every_writer() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    write_safetensors(&input, &inputs([1, 1, 1, 3, 5, 8])).unwrap();
    let full = Path::new("/dev/full");
    let (cache, tuned) = (folder.path().join("cache"), folder.path().join("tunings.json"));
    std::fs::write(&tuned, tunings(0..1).to_string()).unwrap();
    let run = ["run", SPEC, "--backend", "cpu", "--input"];
    let bench = ["bench", "gqa_odd_tails", "--runs", "1"];
    let writers = [
        told(program(Path::new("")).args(run).arg(&input).arg("--output").arg(full)),
        told(program(&cache).args(["tune", "--import"]).arg(&tuned).arg("--export").arg(full)),
        told(program(Path::new("")).args(bench).arg("--output").arg(full)),
        told(program(Path::new("")).args(bench).arg("--html").arg(full)),
        told(program(Path::new("")).args(["demo", "neighborhood", "--output"]).arg(full)),
    ];
    for (writer, (code, message)) in writers.iter().enumerate() {
        assert_eq!(*code, Some(1), "{writer}: {message}");
        assert!(message.contains("/dev/full: No space left"), "{writer}: {message}");
    }
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for arguments in [&["explain", SPEC][..], &["info"], &["--help"], &["--version"]] {
        let mut command = program(Path::new(""));
        let status = command.args(arguments).stdout(full()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}");
        let mut silent = program(Path::new(""));
        let status = silent.args(arguments).stdout(Stdio::null()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?} with nowhere for messages");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_went_away_ends_the_program_without_a_word() {
    let mut command = program(Path::new(""));
    let command = command.args(["explain", SPEC]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn tune_says_what_is_stored_and_fails_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("taken"), "").unwrap();
    let tune = |cache: &Path, more: &[&str]| {
        let output = program(cache).args(["tune", SMALL]).args(more).output().unwrap();
        let [told, error] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        (output.status.code(), told.into_owned(), error.into_owned())
    };
    let long = ["--budget", "3600"];
    let (code, told, error) = tune(&path("cache"), &["--budget", "0"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        told.contains("the budget ended before") && told.contains("Nothing is stored."),
        "{told}"
    );
    assert!(error.contains(": not measured within --budget"), "{error}");
    assert!(
        names(folder.path()).iter().all(|name| name != "cache") || !has_tunings(&path("cache"))
    );
    let (code, told, error) = tune(Path::new(""), &long);
    assert!(code == Some(1) && told.contains("Nothing is stored."), "{told}");
    assert!(error.contains("there is no cache folder"), "{error}");
    let (code, told, error) = tune(&path("taken"), &long);
    assert!(code == Some(1) && told.contains("Nothing is stored."), "{told}");
    assert!(error.contains("not stored, ") && error.contains("taken"), "{error}");
    let export = path("export.json").display().to_string();
    let (code, told, error) = tune(Path::new(""), &["--budget", "3600", "--export", &export]);
    assert!(code == Some(0) && told.contains("Nothing is stored."), "{error}");
    assert!(error.contains("1 tunings written to"), "{error}");
    let (code, told, error) = tune(&path("cache"), &long);
    assert!(code == Some(0) && told.contains("of 1 of 1 problems are stored in"), "{told}{error}");
    assert!(has_tunings(&path("cache")));
}

fn has_tunings(folder: &Path) -> bool {
    names(folder).iter().any(|name| name.starts_with("tunings-"))
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_but_the_programs_own_words_goes_to_stderr() {
    for arguments in [&["info"][..], &["tune", "--help"], &["explain", SPEC]] {
        let mut command = program(Path::new(""));
        let output = command.args(arguments).env_remove("XDG_RUNTIME_DIR").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert!(output.status.success(), "{arguments:?}");
    }
}
