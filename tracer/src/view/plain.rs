//! The view as a block of lines, for pipes and files.

use super::{
    View,
    columns::Column,
    draw::{ending, summary, who},
    list::name,
    state::Id,
};
use crate::{
    event::Kind,
    report::units::{count, seconds},
};

/// Characters of the columns and of a name; wider than most terminals, since a pipe has no width.
const WIDTH: usize = 200;

pub(super) fn text(view: &View, shown: usize) -> String {
    let picture = &view.picture;
    let (numbers, trust) = summary(view);
    let ending = ending(picture).map_or_else(String::new, |it| format!("   {it}"));
    let mut lines =
        vec![format!("{}   {}{ending}", who(picture), seconds(picture.at_s)), format!("{numbers}   {trust}")];
    let several = picture.processes.len() > 1;
    let mut columns = Column::that_fit(WIDTH, view.state.tab, several);
    columns.retain(|it| *it != Column::Trend);
    let mut head: Vec<String> = columns.iter().map(|it| it.align(it.title())).collect();
    head.push("SITE".to_owned());
    lines.push(head.join(" "));
    let all = picture.live_of(view.state.kind.map(Kind::name));
    for line in view.list.iter().take(shown) {
        let pid = match line.id {
            Id::Site(site) => picture.site(site).and_then(|it| it.pid).unwrap_or_default(),
            Id::Function(_) => 0,
            Id::Process(id) => picture.process(id).map_or(0, |it| it.row.pid),
        };
        let mut cells: Vec<String> = columns.iter().map(|it| it.text(line, all, "", pid)).collect();
        cells.push(name(view, line.id));
        lines.push(cells.join(" "));
    }
    if view.list.len() > shown {
        lines.push(format!("… and {} more sites", count((view.list.len() - shown) as i64)));
    } else if view.list.is_empty() {
        let text = if !picture.has_sites { "no allocation was seen" } else { "nothing is held" };
        lines.push(text.to_owned());
    }
    lines.join("\n") + "\n"
}
