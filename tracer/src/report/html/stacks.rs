//! Stacks as a tree, so that what they have in common is in the file once.

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::profile::Frame;

/// Texts, once each; others name them by their place.
#[derive(Default)]
pub(super) struct Strings {
    places: FxHashMap<String, u32>,
    texts: Vec<String>,
}

impl Strings {
    pub(super) fn place(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.texts.len() as u32;
        self.places.insert(text.to_owned(), place);
        self.texts.push(text.to_owned());
        place
    }

    pub(super) fn into_texts(self) -> Vec<String> {
        self.texts
    }
}

/// Columns; each entry of a column is a row's. Texts are places in [`Strings`].
#[derive(Default, Serialize)]
pub(super) struct Stacks {
    functions: Functions,
    frames: Frames,
    nodes: Nodes,
    #[serde(skip)]
    known_functions: FxHashMap<(u32, u32, bool), u32>,
    #[serde(skip)]
    known_frames: FxHashMap<FrameKey, u32>,
    #[serde(skip)]
    known_nodes: FxHashMap<(u32, u32), u32>,
}

#[derive(Default, Serialize)]
struct Functions {
    name: Vec<u32>,
    module: Vec<u32>,
    /// 1 for what lies between an allocation and whoever wanted it.
    plumbing: Vec<u8>,
}

#[derive(Default, Serialize)]
struct Frames {
    function: Vec<u32>,
    file: Vec<Option<u32>>,
    line: Vec<Option<u32>>,
    offset: Vec<u64>,
    inlined: Vec<u8>,
}

#[derive(Default, Serialize)]
struct Nodes {
    /// How many nodes before this one its caller is; 0 for an outermost frame.
    caller: Vec<u32>,
    frame: Vec<u32>,
}

#[derive(PartialEq, Eq, Hash)]
struct FrameKey {
    function: u32,
    offset: u64,
    file: Option<u32>,
    line: Option<u32>,
    inlined: bool,
}

impl Stacks {
    /// The node of a stack's innermost frame; `None` for a stack without frames.
    pub(super) fn node(&mut self, outermost_first: impl Iterator<Item = u32>) -> Option<u32> {
        let mut caller = None;
        for frame in outermost_first {
            // Places count from 1 here, so that 0 is no node.
            let key = (caller.map_or(0, |it: u32| it + 1), frame);
            let place = self.nodes.frame.len() as u32;
            caller = Some(*self.known_nodes.entry(key).or_insert_with(|| {
                self.nodes.caller.push(caller.map_or(0, |it| place - it));
                self.nodes.frame.push(frame);
                place
            }));
        }
        caller
    }

    /// The place of a frame.
    pub(super) fn frame(&mut self, frame: &Frame, strings: &mut Strings) -> u32 {
        let key = FrameKey {
            function: self.function(frame, strings),
            offset: frame.offset,
            file: frame.file.as_ref().map(|it| strings.place(it)),
            line: frame.line,
            inlined: frame.inlined,
        };
        let frames = &mut self.frames;
        let place = frames.function.len() as u32;
        *self.known_frames.entry(key).or_insert_with_key(|key| {
            frames.function.push(key.function);
            frames.file.push(key.file);
            frames.line.push(key.line);
            frames.offset.push(key.offset);
            frames.inlined.push(u8::from(key.inlined));
            place
        })
    }

    fn function(&mut self, frame: &Frame, strings: &mut Strings) -> u32 {
        let name = match &frame.function {
            Some(name) => strings.place(name),
            None => strings.place(&frame.label()),
        };
        let module = strings.place(&frame.module);
        let plumbing = frame.is_plumbing() || frame.is_library();
        let functions = &mut self.functions;
        let place = functions.name.len() as u32;
        *self.known_functions.entry((name, module, plumbing)).or_insert_with(|| {
            functions.name.push(name);
            functions.module.push(module);
            functions.plumbing.push(u8::from(plumbing));
            place
        })
    }
}
