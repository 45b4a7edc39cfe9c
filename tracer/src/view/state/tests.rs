//! What each key makes of the viewer's choices.

use super::{super::tests::keys, *};

const LIST: [Id; 5] = [Id::Site(10), Id::Site(11), Id::Site(12), Id::Site(13), Id::Site(14)];

fn press(text: &str) -> (State, Option<Wish>) {
    let mut state = State { page: 2, ..State::new(Sort::Bytes) };
    let wishes: Vec<_> = keys(text).into_iter().map(|it| state.press(it, &LIST)).collect();
    (state, wishes.last().copied().flatten())
}

/// What is not as it was in the beginning, in words.
fn changed(state: &State) -> String {
    let first = State { page: 2, ..State::new(Sort::Bytes) };
    let mut words = Vec::new();
    let mut add = |is: bool, word: String| {
        if is {
            words.push(word);
        }
    };
    add(state.tab != first.tab, format!("{:?}", state.tab));
    add(state.sort != first.sort, format!("by {:?}", state.sort));
    add(state.kind != first.kind, state.kind.map_or("all kinds".to_owned(), |it| it.name().to_owned()));
    add(!state.filter.is_empty(), format!("filter {}", state.filter));
    add(state.process.is_some(), format!("process {}", state.process.unwrap_or_default()));
    add(state.typing, "typing".to_owned());
    add(state.span != first.span, state.span.name().to_owned());
    add(state.paused, "paused".to_owned());
    add(state.help, "help".to_owned());
    add(state.open.is_some(), format!("open {}", state.open.unwrap_or_default()));
    add(state.scroll > 0, format!("scrolled {}", state.scroll));
    add(state.cursor > 0, format!("line {}", state.cursor));
    add(state.message.is_some(), "message".to_owned());
    words.join(", ")
}

fn check(text: &str, expected: &str) {
    assert_eq!(changed(&press(text).0), expected, "after {text}");
}

#[test]
fn moving() {
    check("jj", "line 2");
    check("jjk", "line 1");
    check("k", "");
    check("<PgDn><PgDn><PgDn>", "line 4");
    check("<End><PgUp>", "line 2");
    check("<Down><End><Up><Home>", "");
}

#[test]
fn sorting_goes_to_the_top() {
    check("g", "by Growth");
    check("jjb", "by Blocks");
    check("ga", "by Age");
    check("gl", "");
}

#[test]
fn what_is_listed() {
    check("<Tab>", "Functions");
    check("<Tab><Tab>", "");
    check("t", "mmap");
    check("tt", "resident");
    check("ttt", "all kinds");
    check("tttt", "");
}

#[test]
fn into_a_process_and_back() {
    let list = [Id::Process(3), Id::Process(4)];
    let mut state = State::new(Sort::Bytes);
    for key in keys("pj<Enter>") {
        state.press(key, &list);
    }
    assert_eq!(changed(&state), "process 4");
    state.press(keys("<Esc>")[0], &LIST);
    assert_eq!((changed(&state), state.selected), ("Processes".to_owned(), Some(Id::Process(4))));
    check("pp", "");
    check("p<Tab>", "");
}

#[test]
fn filters() {
    check("/leak", "filter leak, typing");
    check("/leak<Enter>", "filter leak");
    check("/leak<Enter>j", "filter leak, line 1");
    check("/leaq<Back>k", "filter leak, typing");
    check("/leak<Esc>", "");
    check("/leak<Enter><Esc>", "");
    check("/q?w <Enter>", "filter q?w ");
}

#[test]
fn windows_and_pauses() {
    check("w", "5 min");
    check("www", "10 s");
    check("wwww", "");
    check(" ", "paused");
    check("  ", "");
    check(" w", "paused, message");
}

#[test]
fn stacks() {
    check("j<Enter>", "open 11, line 1");
    check("j<Enter>jj<PgDn>k", "open 11, scrolled 3, line 1");
    check("j<Enter>jj<Home>", "open 11, line 1");
    check("j<Enter><Esc>", "line 1");
    check("<Enter>g", "open 10");
    check("<Enter>w", "5 min, open 10");
}

#[test]
fn help_goes_with_the_next_key() {
    check("?", "help");
    check("?j", "");
    check("??", "");
}

#[test]
fn wishes() {
    for (text, wish) in [
        ("q", Some(Wish::Quit)),
        ("<C-c>", Some(Wish::Quit)),
        ("/a<C-c>", Some(Wish::Quit)),
        ("?q", Some(Wish::Quit)),
        ("<Enter>q", Some(Wish::Quit)),
        ("/q", None),
        ("m", Some(Wish::Mark)),
        ("s", Some(Wish::SaveCapture)),
        ("<Enter>f", Some(Wish::SaveFlamegraph)),
        ("j", None),
    ] {
        assert_eq!(press(text).1, wish, "{text}");
    }
}

#[test]
fn what_is_selected_stays_so() {
    let (mut state, _) = press("jj");
    state.settle(&[Id::Site(12), Id::Site(11)]);
    assert_eq!((state.cursor, state.selected), (0, Some(Id::Site(12))));
    state.settle(&LIST);
    assert_eq!(state.cursor, 2);
    state.settle(&[Id::Site(7)]);
    assert_eq!((state.cursor, state.selected), (0, None));
    state.settle(&[]);
    assert_eq!(state.cursor, 0);
}

#[test]
fn who_has_not_chosen_looks_at_the_first() {
    let mut state = State::new(Sort::Bytes);
    state.settle(&[Id::Site(3), Id::Site(10)]);
    assert_eq!((state.cursor, state.selected), (0, None));
}

#[test]
fn an_empty_list_is_no_trouble() {
    let mut state = State::new(Sort::Bytes);
    for key in keys("jk<PgDn><PgUp><Home><End><Enter><Tab>") {
        state.press(key, &[]);
        state.settle(&[]);
    }
    assert_eq!((state.cursor, state.open), (0, None));
}
