//! Bodies of responses.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use hyper::body::Incoming;
use stead_apiserver::LongList;
use tokio::sync::mpsc;

use crate::watch::Watch;

/// What caches are told: who may see an answer, the next request's credentials tell.
pub const NOT_CACHED: &str = "no-cache, private";

/// A response body: nothing, whole pieces, a watch, or a stream that somebody else fills.
pub enum Out {
    Pieces(std::vec::IntoIter<Bytes>, u64),
    /// A piece that is made already, if it was not sent yet, and those that are made when they are sent.
    List(Option<Bytes>, Box<LongList>),
    Watch(Box<Watch>),
    Stream(mpsc::Receiver<Bytes>),
    /// What another server answers.
    Passed(Incoming),
    /// One whose end somebody waits for: he is dropped then.
    Followed(Box<Out>, Box<dyn Send>),
}

impl HttpBody for Out {
    type Data = Bytes;
    /// Another server broke off: the client must not take what it has for the whole.
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Out::Pieces(pieces, left) => Poll::Ready(pieces.next().map(|piece| {
                *left -= piece.len() as u64;
                Ok(Frame::data(piece))
            })),
            Out::List(first, rest) => {
                Poll::Ready(first.take().or_else(|| rest.next()).map(|piece| Ok(Frame::data(piece))))
            }
            Out::Watch(watch) => watch.poll_next(cx).map(|next| next.map(|piece| Ok(Frame::data(piece)))),
            Out::Stream(receiver) => receiver.poll_recv(cx).map(|next| next.map(|piece| Ok(Frame::data(piece)))),
            Out::Followed(out, _) => Pin::new(&mut **out).poll_frame(cx),
            Out::Passed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Out::Followed(out, _) => out.is_end_stream(),
            Out::Pieces(_, left) => *left == 0,
            Out::Passed(body) => body.is_end_stream(),
            Out::List(..) | Out::Watch(_) | Out::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Out::Pieces(_, left) => http_body::SizeHint::with_exact(*left),
            Out::Passed(body) => body.size_hint(),
            Out::List(..) | Out::Watch(_) | Out::Stream(_) | Out::Followed(..) => http_body::SizeHint::default(),
        }
    }
}

impl Out {
    /// A list that is one piece only is sent with its length, a longer one as it is made.
    pub fn list(mut list: Box<LongList>) -> Out {
        let first = list.next();
        if list.is_over() { Out::pieces(first.into_iter().collect()) } else { Out::List(first, list) }
    }

    pub fn pieces(pieces: Vec<Bytes>) -> Out {
        let total = pieces.iter().map(|p| p.len() as u64).sum();
        Out::Pieces(pieces.into_iter(), total)
    }
}
