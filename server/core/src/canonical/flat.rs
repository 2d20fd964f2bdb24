//! The canonical text of a JSON text of any depth, made without recursion: bodies of requests hold
//! many events, and one that nests too deep must not spoil the others.

use super::parse::Parser;
use super::{CanonicalError, Mode, Value, write_string};

/// How deeply a whole body may be nested: an event of 65,536 bytes can hold half as many arrays in
/// each other, and a transaction is some levels around it.
pub const MAX_BODY_DEPTH: usize = 32_768 + 8;

/// A value and those in it, by their places in a list of all.
enum Node {
    Leaf(Value),
    Array(Vec<usize>),
    /// Fields in canonical order.
    Object(Vec<(String, usize)>),
}

/// A value that is still being read.
enum Open {
    Array(Vec<usize>),
    Object(Vec<(String, usize)>),
}

/// The canonical text of an object.
///
/// # Errors
/// Longer than `max_bytes`, nested deeper than [`MAX_BODY_DEPTH`], not JSON, or no object.
pub fn canonical_object(
    text: &[u8],
    mode: Mode,
    max_bytes: usize,
) -> Result<String, CanonicalError> {
    let mut parser = Parser::new(text, mode, max_bytes)?;
    let (nodes, root) = read(&mut parser)?;
    if !matches!(nodes.get(root), Some(Node::Object(_))) {
        return Err(CanonicalError::NotAnObject);
    }
    let mut out = String::with_capacity(text.len());
    write(&nodes, root, &mut out);
    Ok(out)
}

fn read(parser: &mut Parser<'_>) -> Result<(Vec<Node>, usize), CanonicalError> {
    let mut nodes = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    parser.space();
    loop {
        // A value begins here; one that is whole at once is put into what is open.
        let mut done = if parser.eat(b'{') {
            push(&mut open, Open::Object(Vec::new()))?;
            parser.space();
            match parser.eat(b'}') {
                true => close(&mut open, &mut nodes),
                false => None,
            }
        } else if parser.eat(b'[') {
            push(&mut open, Open::Array(Vec::new()))?;
            parser.space();
            match parser.eat(b']') {
                true => close(&mut open, &mut nodes),
                false => None,
            }
        } else {
            nodes.push(Node::Leaf(parser.leaf()?));
            Some(nodes.len() - 1)
        };
        // What was read closes what is around it, as far as that ends here too.
        while let Some(at) = done.take() {
            parser.space();
            match open.last_mut() {
                None => return parser.end().map(|()| (nodes, at)),
                Some(Open::Array(items)) => {
                    items.push(at);
                    if parser.eat(b']') {
                        done = close(&mut open, &mut nodes);
                    } else if !parser.eat(b',') {
                        return Err(parser.error("expected a comma or the array's end"));
                    }
                }
                Some(Open::Object(fields)) => {
                    if let Some((_, place)) = fields.last_mut() {
                        *place = at;
                    }
                    if parser.eat(b'}') {
                        done = close(&mut open, &mut nodes);
                    } else if !parser.eat(b',') {
                        return Err(parser.error("expected a comma or the object's end"));
                    }
                }
            }
        }
        parser.space();
        if let Some(Open::Object(fields)) = open.last_mut() {
            // Its value comes next.
            fields.push((parser.field_name()?, 0));
        }
    }
}

fn push(open: &mut Vec<Open>, one: Open) -> Result<(), CanonicalError> {
    if open.len() >= MAX_BODY_DEPTH {
        return Err(CanonicalError::TooDeep(MAX_BODY_DEPTH));
    }
    open.push(one);
    Ok(())
}

/// Ends the innermost value; gives its place.
fn close(open: &mut Vec<Open>, nodes: &mut Vec<Node>) -> Option<usize> {
    nodes.push(match open.pop()? {
        Open::Array(items) => Node::Array(items),
        Open::Object(fields) => Node::Object(super::in_order(fields)),
    });
    Some(nodes.len() - 1)
}

fn write(nodes: &[Node], root: usize, out: &mut String) {
    // What is being written, and how much of it is.
    let mut todo = vec![(root, 0)];
    while let Some((at, done)) = todo.pop() {
        let next = match nodes.get(at) {
            None => None,
            Some(Node::Leaf(value)) => {
                value.write(out);
                None
            }
            Some(Node::Array(items)) => {
                let next = items.get(done).copied();
                out.push_str(match (next, done) {
                    (Some(_), 0) => "[",
                    (Some(_), _) => ",",
                    (None, 0) => "[]",
                    (None, _) => "]",
                });
                next
            }
            Some(Node::Object(fields)) => {
                let next = fields.get(done);
                out.push_str(match (next, done) {
                    (Some(_), 0) => "{",
                    (Some(_), _) => ",",
                    (None, 0) => "{}",
                    (None, _) => "}",
                });
                next.map(|(name, value)| {
                    write_string(name, out);
                    out.push(':');
                    *value
                })
            }
        };
        if let Some(next) = next {
            todo.push((at, done + 1));
            todo.push((next, 0));
        }
    }
}
