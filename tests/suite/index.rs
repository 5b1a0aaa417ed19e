//! The index of tensors: the page of it is what the program writes, which asks the operators.

use std::process::{Command, Output};

use serde_json::Value;

fn tensors(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewise"));
    command.env("TILEWISE_CACHE", "").arg("tensors").args(arguments).output().unwrap()
}

/// `TILEWISE_WRITE_TENSORS=1` writes the page anew.
#[test]
fn the_page_of_tensors_is_what_the_program_writes() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tensors.md");
    let written = tensors(&["--markdown"]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    if std::env::var_os("TILEWISE_WRITE_TENSORS").is_some() {
        std::fs::write(page, &written.stdout).unwrap();
    }
    let kept = std::fs::read_to_string(page).unwrap().replace("\r\n", "\n");
    assert!(
        kept == String::from_utf8(written.stdout).unwrap(),
        "docs/tensors.md is old: TILEWISE_WRITE_TENSORS=1 with this test writes it anew"
    );
}

#[test]
fn an_operator_is_asked_for_by_its_name() {
    let told = tensors(&["attention", "--json"]);
    let index: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(index.as_array().unwrap().len(), 1);
    let rows = index[0]["tensors"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row("v_pages")["axes"][3], "value_dim");
    assert_eq!(row("q")["element_type"], "dtype");
    assert_eq!(row("head_gate")["element_type"], "f32, dtype");
    assert_eq!(row("block_table")["element_type"], "i32");
    assert_eq!(row("lse")["direction"], "out");
    let lens: Vec<_> = rows.iter().filter(|row| row["name"] == "kv_lens").collect();
    assert_eq!([&lens[0]["when"], &lens[1]["when"]], ["optional", "keys in pages"]);
    let table = String::from_utf8(tensors(&["moe"]).stdout).unwrap();
    assert!(table.starts_with("moe\n") && table.contains("topk_weights"), "{table}");
    let unknown = tensors(&["attenton"]);
    assert_eq!(unknown.status.code(), Some(2));
    let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(message.contains("expected one of attention, attention_merge,"), "{message}");
}
