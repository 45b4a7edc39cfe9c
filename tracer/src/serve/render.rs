//! A recording as a page: any report, written to memory. This is the work that takes time; it is done where nobody waits.

use super::{page::Page, question::Excerpt};
use crate::{
    capture::Recording,
    profile::{Profile, Query},
    report::{self, Format, Options},
};

/// Sites that a page shows of a process one by one; the others are in its sums.
const MAX_SITES: usize = 2000;

/// What an excerpt of a run in progress says. Lines of source are left out: finding them means to read the debug information of
/// programs, which may be gigabytes, and a watch has little memory.
pub(super) fn excerpt(excerpt: &Excerpt, format: Format, path: String, opens_with_allocated: bool) -> Page {
    let options = Options { path, opens_with_allocated, ..Options::default() };
    // What is not to be added up has been left out already, or the format tells it apart.
    let query = Query { from_s: excerpt.from_s, overlapping: true, ..Query::default() };
    written(&excerpt.recording, &query, format, options)
}

/// What a file says.
pub(super) fn incident(recording: &Recording, format: Format, name: &str) -> Page {
    let options = Options { path: name.to_owned(), ..Options::default() };
    let overlapping = matches!(format, Format::Text | Format::Json);
    written(recording, &Query { overlapping, ..Query::default() }, format, options)
}

fn written(recording: &Recording, query: &Query, format: Format, mut options: Options) -> Page {
    if format == Format::Html {
        options.top = Some(MAX_SITES);
    }
    let profile = Profile::new(recording, query, format.shown_sites(&options));
    let mut body = Vec::new();
    if let Err(error) = report::write(format, recording, &profile, &options, &mut body) {
        return Page::text(500, &format!("The report could not be written: {error}."));
    }
    let page = Page::new(format.content_type(), body);
    match format {
        // The page has a policy of its own, which cannot say this.
        Format::Html => page.with("content-security-policy", "frame-ancestors 'none'"),
        // Its script is inside of it.
        Format::Flamegraph => page.with(
            "content-security-policy",
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        _ => page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::sample_recording;

    #[test]
    fn every_format_is_written() {
        for format in Format::ALL {
            let page = incident(&sample_recording(), format, "incident.jsonl.zst");
            assert_eq!((page.status, page.content_type), (200, format.content_type()));
            let starts: &[u8] = match format {
                Format::Html => b"<!doctype html>",
                Format::Flamegraph => b"<?xml",
                Format::Pprof => &[0x1f, 0x8b],
                Format::Text | Format::Folded => b"",
                Format::Json | Format::Speedscope | Format::Firefox | Format::Dhat => b"{",
            };
            let start = page.body[..starts.len()].to_ascii_lowercase();
            assert_eq!(start, starts, "{format:?}");
        }
    }
}
