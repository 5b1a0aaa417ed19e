//! WGSL with placeholders: text of a header that lies in `shaders/`, filled in by the host.

use std::fmt::Display;

/// A template by its file in `shaders/`, with its placeholders filled in: `template!("kernel/element.wgsl", "NAME" = name)`.
macro_rules! template {
    ($file:literal $(, $name:literal = $value:expr)* $(,)?) => {
        $crate::kernel::template::filled(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)),
            &[$(($name, &$value as &dyn std::fmt::Display)),*],
        )
    };
}
pub(crate) use template;

/// Puts values in the place of their names, one name after another, so that a value may hold names that follow.
/// Lines that begin with a comment are about the template, and are left out. So is a line that holds nothing but the name
/// of an empty value.
pub(crate) fn filled(template: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut text = String::with_capacity(template.len());
    for line in template.split_inclusive('\n').filter(|line| !line.starts_with("//")) {
        let mut filled = line.to_owned();
        for (name, value) in values {
            filled = filled.replace(name, &value.to_string());
        }
        if !filled.trim().is_empty() || line.trim().is_empty() {
            text.push_str(&filled);
        }
    }
    text
}

/// Statements as a value that stands on a line of its own, at a function's indentation.
pub(crate) fn statements(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().collect::<Vec<_>>().join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_what_is_about_the_template_is_left_out() {
        let template = "// Reads.\nfn NAME_get() {\n    LOADS\n    return VALUE; // stays\n}\n";
        let value = "NAME[0]";
        assert_eq!(
            filled(template, &[("VALUE", &value), ("LOADS", &""), ("NAME", &"q")]),
            "fn q_get() {\n    return q[0]; // stays\n}\n"
        );
        let loads = statements(["a;".to_owned(), "b;".to_owned()]);
        assert!(filled(template, &[("LOADS", &loads)]).contains("    a;\n    b;\n"));
    }
}
