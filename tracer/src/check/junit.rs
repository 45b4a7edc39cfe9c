//! Test results in JUnit's XML, as Jenkins, GitLab and most other CI systems read them: one test case a budget.
//!
//! `failure` is a breach, `error` what could not be decided.

use std::io::{self, Write};

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};

use super::{Case, Finding, Judgement, Options, Outcome, text};

/// A test case that is not fine.
struct Trouble {
    /// `failure` or `error`.
    element: &'static str,
    /// `breached`, `undecided` or `command-failed`.
    kind: &'static str,
    message: String,
    text: String,
}

pub(super) fn write(
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let profile = &case.whole.profile;
    let mut cases: Vec<(&str, Option<Trouble>)> = Vec::new();
    for finding in &outcome.findings {
        cases.push((finding.budget.flag(), trouble(finding, case, options)?));
    }
    cases.push(("trust", doubts(outcome)));
    if profile.header.is_launch() {
        cases.push(("command", outcome.failure.as_deref().map(failed)));
    }
    let mut system_out = Vec::new();
    text::write(outcome, case, &Options { color: false, ..options.clone() }, &mut system_out)?;

    let count = |element: &str| {
        let of = |it: &&(&str, Option<Trouble>)| it.1.as_ref().is_some_and(|it| it.element == element);
        cases.iter().filter(of).count().to_string()
    };
    let (tests, failures, errors) = (cases.len().to_string(), count("failure"), count("error"));
    let time = format!("{:.3}", profile.duration_s);
    let suite_name = format!("alloctrace check {}", profile.header.target);
    let counts = [("tests", &*tests), ("failures", &*failures), ("errors", &*errors), ("time", &*time)];

    let mut xml = Writer::new_with_indent(&mut *out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    open(&mut xml, "testsuites", &counts)?;
    // Some readers want no more than seconds.
    let started = profile.header.started.get(..19).unwrap_or(&profile.header.started);
    let mut suite = vec![("name", &*suite_name), ("timestamp", started)];
    suite.extend([("hostname", &*profile.header.host), ("skipped", "0")]);
    suite.extend(counts);
    open(&mut xml, "testsuite", &suite)?;
    for (name, trouble) in &cases {
        // The run as a whole took the time; none of the budgets did.
        let attributes = [("classname", "alloctrace.check"), ("name", name), ("time", "0")];
        let Some(trouble) = trouble else {
            xml.write_event(Event::Empty(element("testcase", &attributes)))?;
            continue;
        };
        open(&mut xml, "testcase", &attributes)?;
        let attributes = [("type", trouble.kind), ("message", &trouble.message)];
        text_element(&mut xml, trouble.element, &attributes, &trouble.text)?;
        close(&mut xml, "testcase")?;
    }
    text_element(&mut xml, "system-out", &[], &String::from_utf8_lossy(&system_out))?;
    close(&mut xml, "testsuite")?;
    close(&mut xml, "testsuites")?;
    writeln!(out)
}

fn trouble(finding: &Finding, case: &Case, options: &Options) -> io::Result<Option<Trouble>> {
    let element = match finding.result {
        Judgement::Kept => return Ok(None),
        Judgement::Breached => "failure",
        Judgement::Undecided => "error",
    };
    let text = text::plain_sites(finding, case, options)?;
    Ok(Some(Trouble { element, kind: finding.result.name(), message: text::sentence(finding), text }))
}

fn doubts(outcome: &Outcome) -> Option<Trouble> {
    let message = outcome.doubts.first()?.clone();
    Some(Trouble { element: "error", kind: "undecided", message, text: outcome.doubts.join("\n") })
}

fn failed(failure: &str) -> Trouble {
    let message = failure.to_owned();
    Trouble { element: "failure", kind: "command-failed", message: message.clone(), text: message }
}

fn open<W: Write>(xml: &mut Writer<W>, name: &'static str, attributes: &[(&str, &str)]) -> io::Result<()> {
    xml.write_event(Event::Start(element(name, attributes)))
}

fn close<W: Write>(xml: &mut Writer<W>, name: &'static str) -> io::Result<()> {
    xml.write_event(Event::End(BytesEnd::new(name)))
}

fn text_element<W: Write>(
    xml: &mut Writer<W>,
    name: &'static str,
    attributes: &[(&str, &str)],
    text: &str,
) -> io::Result<()> {
    open(xml, name, attributes)?;
    xml.write_event(Event::Text(BytesText::new(&legal(text))))?;
    close(xml, name)
}

fn element<'a>(name: &'static str, attributes: &[(&str, &str)]) -> BytesStart<'a> {
    let mut element = BytesStart::new(name);
    for (name, value) in attributes {
        // A reader makes a blank of a line break in an attribute.
        let value = legal(value).replace(['\n', '\r', '\t'], " ");
        element.push_attribute((*name, &*value));
    }
    element
}

/// XML 1.0 knows no way to write most control characters, not even by number (section 2.2).
fn legal(text: &str) -> String {
    let is_legal = |it: char| matches!(it, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|it| if is_legal(it) { it } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_xml_allows() {
        assert_eq!(legal("a\tb\nc"), "a\tb\nc");
        assert_eq!(legal("\u{1b}[31m\0\u{7f}ü\u{ffff}"), "\u{fffd}[31m\u{fffd}\u{7f}ü\u{fffd}");
    }

    #[test]
    fn markup_in_names_is_escaped() {
        let mut out = Vec::new();
        let mut xml = Writer::new(&mut out);
        text_element(&mut xml, "failure", &[("message", "a \"<b>\" & 'c'\nd")], "Vec<u8>::push && ]]>")
            .unwrap();
        let expected = "<failure message=\"a &quot;&lt;b&gt;&quot; &amp; &apos;c&apos; d\">Vec&lt;u8&gt;::push &amp;&amp; ]]&gt;</failure>";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
