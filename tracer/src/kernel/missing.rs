//! What to say when there is nothing to trace: what was looked at, why nothing was found, and what to try.

use super::object::Object;
use crate::elf::{
    Image,
    pools::{Spec, candidates, similar},
};

/// What follows the growth of memory where no allocator can be followed.
const GROWTH: &str =
    "`alloctrace record --tier growth` follows how its memory grows, without any allocator function";

/// Paths in a message; the first are those of the program and its own libraries.
const MOST_PATHS: usize = 8;

/// Options that are worth a try, if functions of the program look like an allocator of its own.
pub(super) fn suggestions(objects: &[&Object]) -> Vec<String> {
    let mut suggestions = Vec::new();
    for object in objects {
        let Ok(Some(bytes)) = object.bytes() else { continue };
        let Ok(image) = Image::parse(&bytes) else { continue };
        let known: Vec<&str> = object.functions.iter().map(|it| &*it.name).collect();
        suggestions.extend(candidates::suggest(&image, &known));
    }
    suggestions.truncate(3);
    suggestions
}

/// Why `objects`, which are the files of `label`, have no allocator that could be followed.
pub(super) fn allocator(label: &str, objects: &[&Object]) -> String {
    let files: Vec<&Object> = objects.iter().copied().filter(|it| it.file.is_some()).collect();
    if files.iter().any(|it| it.is_go) {
        return format!(
            "{label} is a Go program without a C allocator: the Go runtime manages its heap by itself, and there is no \
             malloc to follow\n{GROWTH}"
        );
    }
    let mut lines = vec![format!(
        "{label} has no allocator that this tool knows: none of its files defines malloc and free (looked at: {})",
        paths(&files)
    )];
    for object in &files {
        let Ok(Some(bytes)) = object.bytes() else { continue };
        let Ok(image) = Image::parse(&bytes) else { continue };
        if image.is_static() && !image.has_symbol_table() {
            lines.push(format!(
                "{} is linked statically and stripped: its functions have no names left. Trace a build with its symbol \
                 table (without `strip` or `-s`)",
                object.path
            ));
        }
    }
    let suggestions = suggestions(&files);
    if !suggestions.is_empty() {
        lines.push("It has functions that look like an allocator; check the arguments and try:".to_owned());
        lines.extend(suggestions.into_iter().map(|it| format!("  {it}")));
    }
    lines.push(GROWTH.to_owned());
    lines.join("\n")
}

/// Why there is no function as `spec` says.
pub(super) fn function(label: &str, spec: &Spec, objects: &[&Object]) -> String {
    let files: Vec<&Object> =
        objects.iter().copied().filter(|it| it.file.is_some() && spec.is_for(&it.path)).collect();
    let mut lines = vec![format!(
        "{spec}: no file of {label} defines a function of this name (looked at: {})",
        paths(&files)
    )];
    let mut near = Vec::new();
    for object in &files {
        let Ok(Some(bytes)) = object.bytes() else { continue };
        let Ok(image) = Image::parse(&bytes) else { continue };
        if !image.has_symbol_table() && Some(object.path.as_str()) == files.first().map(|it| it.path.as_str())
        {
            lines.push(format!("{} is stripped: only what it exports has a name", object.path));
        }
        let symbols = image.functions();
        let names = symbols.iter().filter_map(|it| std::str::from_utf8(it.name).ok());
        near.extend(similar(names, &spec.function).into_iter().map(|it| format!("{it} in {}", object.path)));
    }
    if near.is_empty() {
        lines.push(format!(
            "If a file that is loaded later has it, name that file: {} 'FILE!{}:…'",
            spec.option(),
            spec.function
        ));
    } else {
        // The program's own come first.
        near.truncate(3);
        lines.push(format!("Similar names: {}", near.join(", ")));
    }
    lines.join("\n")
}

fn paths(objects: &[&Object]) -> String {
    let shown: Vec<&str> = objects.iter().take(MOST_PATHS).map(|it| it.path.as_str()).collect();
    match objects.len().saturating_sub(MOST_PATHS) {
        _ if objects.is_empty() => "no file at all".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
