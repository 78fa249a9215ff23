//! Streams of futures-core as input and output (feature `stream`).

mod support;

use duly::{Pool, as_completed};
use futures_core::Stream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use support::*;

/// Numbers that come every other time they are asked for.
struct Numbers {
    next: usize,
    end: usize,
    ready: bool,
    asked: Arc<AtomicUsize>,
}

impl Stream for Numbers {
    type Item = usize;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.ready = !self.ready;
        if !self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.next == self.end {
            return Poll::Ready(None);
        }
        self.next += 1;
        self.asked.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(self.next - 1))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

fn numbers(end: usize) -> (Numbers, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let numbers = Numbers {
        next: 0,
        end,
        ready: true,
        asked: asked.clone(),
    };
    (numbers, asked)
}

/// The next item, through the trait.
async fn next<S: Stream>(stream: &mut Pin<&mut S>) -> Option<S::Item> {
    std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await
}

#[test]
fn p05_a_stream_over_a_stream_pulls_no_further_than_its_window() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let (input, asked) = numbers(usize::MAX);
    let mut stream = pin!(pool.stream_async(input, |_, n| Ok::<_, ()>(n)).window(4).into_async());
    block_on(async {
        for n in 0..10 {
            assert_eq!(next(&mut stream).await.unwrap().unwrap(), n);
        }
    });
    assert!(asked.load(Ordering::SeqCst) <= 14);
    end(&pool);
}

#[test]
fn p01_every_item_of_a_stream_is_answered_once() {
    for ordered in [true, false] {
        let pool = Pool::builder().workers(2).capacity(1).build().unwrap();
        let (input, _) = numbers(100);
        let stream = pool.stream_async(input, |_, n| if n == 50 { Err(()) } else { Ok(n) });
        let mut stream = pin!(stream.ordered(ordered).window(3).into_async());
        let mut seen = Vec::new();
        block_on(async {
            assert_eq!(Stream::size_hint(&*stream), (100, Some(100)));
            while let Some(answer) = next(&mut stream).await {
                seen.push(answer.unwrap_or_else(|error| error.index()));
            }
        });
        if !ordered {
            seen.sort_unstable();
        }
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        let (input, _) = numbers(100);
        let stream = pool.stream_async(input, |_, n| if n == 50 { Err(()) } else { Ok(n) });
        let mut stream = pin!(stream.first_error().into_async());
        block_on(async {
            for n in 0..50 {
                assert_eq!(next(&mut stream).await.unwrap().unwrap(), n);
            }
            assert!(next(&mut stream).await.unwrap().is_err());
            assert!(next(&mut stream).await.is_none());
        });
        end(&pool);
    }
}

#[test]
fn p03_answers_come_while_the_input_has_nothing() {
    struct Two(usize);
    impl Stream for Two {
        type Item = usize;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<usize>> {
            self.0 += 1;
            if self.0 <= 2 {
                Poll::Ready(Some(self.0))
            } else {
                Poll::Pending
            }
        }
    }
    let pool = Pool::builder().workers(1).build().unwrap();
    let mut stream = pin!(pool.stream_async(Two(0), |_, n| Ok::<_, ()>(n)).into_async());
    block_on(async {
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), 1);
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), 2);
    });
    end(&pool);
}

#[test]
fn p01_as_completed_is_a_stream() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let tasks: Vec<_> = (0..20).map(|n| pool.spawn(move || n).unwrap()).collect();
    let mut completed = pin!(as_completed(tasks).into_async());
    let mut sum = 0;
    block_on(async {
        while let Some((place, task)) = next(&mut completed).await {
            assert_eq!(task.wait().unwrap(), place);
            sum += place;
        }
    });
    assert_eq!(sum, 190);
    end(&pool);
}
