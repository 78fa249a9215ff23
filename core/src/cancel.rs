//! Cancellation tokens: a tree, cancelled from the top down.
//!
//! Invariants:
//! 1. A token's reason is set once, before anyone is told.
//! 2. A child holds its parent alive; a parent only lists its children. A child leaves the list when its last
//!    handle is dropped.
//! 3. What watches a token (a task, a waiting thread, a waker) registers under the token's lock and is told
//!    exactly once: by the cancellation that empties the list, or at once if that has happened.
//! 4. A deadline is fixed when the token is made and never later than its parent's. It needs no timer: whoever
//!    watches knows it, and [`is_cancelled`](CancellationToken::is_cancelled) looks at the clock.
//! 5. Cancelling and dropping are loops over a work list, never recursive: a chain a million deep is fine.
//!
//! 6. In a forked child every token made before the fork is cancelled, and its lock is not touched: another thread may have
//!    held it. A child of such a token stands for itself. None is freed.
//!
//! Deadlock safety: a token's lock is held while nothing else is locked, except that a child's lock may be
//! taken while its parent's is held. Watchers are told after all locks are let go.

use crate::clock::{self, NEVER};
use crate::error::CancelReason;
use crate::fork;
use crate::slot::{self, SlotRef};
use crate::sync::{Arc, AtomicU32, Mutex, OnceLock, Ordering, Parker};
use slab::Slab;
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Cancels what was submitted under it, and everything under its children.
///
/// Cheap to clone; every clone is the same token. In a forked child the parent's tokens are cancelled, with reason
/// [`Forked`](CancelReason::Forked). All functions may be called from any thread and never block,
/// except [`wait`](Self::wait).
///
/// ```
/// let root = duly::CancellationToken::new();
/// let request = root.child();
/// root.cancel();
/// assert!(request.is_cancelled());
/// ```
#[derive(Clone)]
pub struct CancellationToken {
    node: ManuallyDrop<Arc<Node>>,
}

struct Node {
    /// The generation of the process in which it is not cancelled.
    live_in: AtomicU32,
    /// The generation of the process that made it.
    born: u32,
    deadline: u64,
    reason: OnceLock<CancelReason>,
    parent: Option<Parent>,
    inner: Mutex<Inner>,
    /// Go with the token: the guard that ends the task that has it follow another, registrations for signals. A leaf.
    #[cfg(any(feature = "tokio", feature = "signals"))]
    kept: Mutex<Vec<Box<dyn std::any::Any + Send + Sync>>>,
}

/// Never dropped while it holds the last reference of its node: see `CancellationToken::drop`.
struct Parent {
    node: Arc<Node>,
    key: usize,
}

#[derive(Default)]
struct Inner {
    /// Pointers to live children: each leaves, under this lock, before it is freed.
    children: Slab<ChildPtr>,
    watchers: Slab<Watcher>,
    /// How tasks are ended: the same for all. This module knows of them only that they are.
    end: Option<EndTasks>,
}

/// Ends tasks, at most [`BATCH`], because of a reason, and empties the first list. Into the second one go references
/// whose drop may run user code.
pub(crate) type EndTasks = fn(&mut Vec<SlotRef>, &CancelReason, &mut Vec<SlotRef>);

/// How many tasks of a cancelled token are ended together.
pub(crate) const BATCH: usize = 64;

/// A child in its parent's list. Upgrading it needs the parent's lock.
struct ChildPtr(std::sync::Weak<Node>);

/// Who is told when a token is cancelled.
pub(crate) enum Watcher {
    Task(SlotRef),
    Thread(Arc<Parker>),
    Waker(Waker),
}

/// A task's place in its token's list.
pub(crate) struct Link {
    token: CancellationToken,
    key: usize,
}

impl Link {
    /// Leaves the list, if the cancellation has not emptied it.
    pub(crate) fn leave(self) {
        self.token.unwatch(self.key);
    }
}

/// No generation.
const CANCELLED: u32 = u32::MAX;

impl CancellationToken {
    fn from_node(node: Arc<Node>) -> Self {
        CancellationToken {
            node: ManuallyDrop::new(node),
        }
    }

    fn root(deadline: u64) -> Self {
        fork::watch();
        Self::from_node(Arc::new(Node {
            live_in: AtomicU32::new(fork::generation()),
            born: fork::generation(),
            deadline,
            reason: OnceLock::new(),
            parent: None,
            inner: Mutex::default(),
            #[cfg(any(feature = "tokio", feature = "signals"))]
            kept: Mutex::default(),
        }))
    }

    /// A token with a deadline, or [`NEVER`]: a child, if there is a parent.
    pub(crate) fn until(parent: Option<&Self>, deadline: u64) -> Self {
        parent.map_or_else(|| Self::root(deadline), |parent| parent.make_child(deadline))
    }

    /// A token without parent and deadline.
    pub fn new() -> Self {
        Self::root(NEVER)
    }

    /// A token without parent that counts as cancelled, with reason
    /// [`DeadlineExceeded`](CancelReason::DeadlineExceeded), from `timeout` on.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self::root(clock::after(timeout))
    }

    /// A token that is cancelled when this one is. A child of a cancelled token is cancelled.
    pub fn child(&self) -> Self {
        self.make_child(NEVER)
    }

    /// A child with a timeout of its own; the earlier of its and this token's deadline holds.
    pub fn child_with_timeout(&self, timeout: Duration) -> Self {
        self.make_child(clock::after(timeout))
    }

    /// A child with a deadline of its own; the earlier of its and this token's deadline holds.
    pub fn child_with_deadline(&self, deadline: Instant) -> Self {
        self.make_child(clock::of(deadline))
    }

    /// A token without parent that has been cancelled.
    pub(crate) fn new_cancelled(reason: CancelReason, deadline: u64) -> Self {
        let token = Self::root(deadline);
        let _ = token.node.reason.set(reason);
        token.node.live_in.store(CANCELLED, Ordering::Release);
        token
    }

    fn make_child(&self, deadline: u64) -> Self {
        if self.node.is_inherited() {
            let reason = self.reason().unwrap_or(CancelReason::Forked);
            return Self::new_cancelled(reason, deadline.min(self.node.deadline));
        }
        let mut inner = self.node.inner.lock();
        let entry = inner.children.vacant_entry();
        let child = Arc::new(Node {
            live_in: AtomicU32::new(self.node.born),
            born: self.node.born,
            deadline: deadline.min(self.node.deadline),
            reason: OnceLock::new(),
            parent: Some(Parent {
                node: Arc::clone(&self.node),
                key: entry.key(),
            }),
            inner: Mutex::default(),
            #[cfg(any(feature = "tokio", feature = "signals"))]
            kept: Mutex::default(),
        });
        entry.insert(ChildPtr(Arc::downgrade(&child)));
        if let Some(reason) = self.node.told() {
            let _ = child.reason.set(reason);
            child.live_in.store(CANCELLED, Ordering::Release);
        }
        drop(inner);
        Self::from_node(child)
    }

    /// Cancels this token and everything under it. Only the first reason is kept.
    pub fn cancel(&self) {
        self.cancel_with(CancelReason::Requested);
    }

    /// [`cancel`](Self::cancel) with a reason, which tasks and callbacks are told.
    ///
    /// Takes time linear in the number of tokens and tasks under this one; tasks have their outcome, and
    /// queued ones have given back their place, when it returns.
    pub fn cancel_with(&self, reason: impl Into<CancelReason>) {
        drop(self.cancel_and_keep(reason.into()));
    }

    /// [`cancel_with`](Self::cancel_with); the references to the tasks that were told come back, for their last drop
    /// runs user code.
    pub(crate) fn cancel_and_keep(&self, reason: CancelReason) -> Vec<SlotRef> {
        let mut told = Vec::new();
        let mut batch = Vec::new();
        let mut work: Vec<Arc<Node>> = vec![Arc::clone(&self.node)];
        while let Some(node) = work.pop() {
            if node.is_inherited() {
                drop(Self::from_node(node));
                continue;
            }
            let (watchers, end) = {
                let mut inner = node.inner.lock();
                if node.live_in.load(Ordering::Relaxed) == CANCELLED {
                    drop(inner);
                    drop(Self::from_node(node));
                    continue;
                }
                let _ = node.reason.set(reason.clone());
                node.live_in.store(CANCELLED, Ordering::Release);
                // A child that is being dropped cannot be upgraded, and needs no telling.
                work.extend(inner.children.iter().filter_map(|(_, child)| child.0.upgrade()));
                (std::mem::take(&mut inner.watchers), inner.end)
            };
            for (_, watcher) in watchers {
                match watcher {
                    Watcher::Task(task) => {
                        task.prefetch();
                        batch.push(task);
                        if let Some(end) = end.filter(|_| batch.len() == BATCH) {
                            end(&mut batch, &reason, &mut told);
                        }
                    }
                    Watcher::Thread(parker) => parker.unpark(),
                    Watcher::Waker(waker) => slot::wake(waker),
                }
            }
            if let Some(end) = end.filter(|_| !batch.is_empty()) {
                end(&mut batch, &reason, &mut told);
            }
            // If this was the node's last reference, its drop must not recurse.
            drop(Self::from_node(node));
        }
        told
    }

    /// Whether it was cancelled, or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        !self.node.is_live() || self.node.expired()
    }

    /// Why it was cancelled, if it was.
    pub fn reason(&self) -> Option<CancelReason> {
        self.node
            .told()
            .or_else(|| self.node.expired().then_some(CancelReason::DeadlineExceeded))
    }

    /// The point in time from which it counts as cancelled, its own or one inherited.
    pub fn deadline(&self) -> Option<Instant> {
        clock::instant(self.node.deadline)
    }

    /// What is left until the deadline.
    pub fn time_left(&self) -> Option<Duration> {
        (self.node.deadline != NEVER).then(|| clock::left(self.node.deadline))
    }

    pub(crate) fn deadline_nanos(&self) -> u64 {
        self.node.deadline
    }

    /// The reason, if it was cancelled by a call (not merely late).
    pub(crate) fn told(&self) -> Option<CancelReason> {
        self.node.told()
    }

    /// Completes when the token is cancelled, by a call or by its deadline.
    pub fn cancelled(&self) -> WaitForCancellation {
        WaitForCancellation {
            token: self.clone(),
            watch: None,
            alarm: None,
        }
    }

    /// Blocks until the token is cancelled (true) or `timeout` has passed (false).
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        let until = timeout.map_or(NEVER, clock::after);
        let wake_at = until.min(self.node.deadline);
        let parker = crate::sync::parker();
        let Ok(key) = self.watch(Watcher::Thread(parker.clone())) else {
            return true;
        };
        while !self.is_cancelled() {
            if wake_at == NEVER {
                parker.park();
            } else if !parker.park_until(wake_at) {
                break;
            }
        }
        self.unwatch(key);
        self.is_cancelled()
    }

    /// A guard that cancels this token, with reason [`Dropped`](CancelReason::Dropped), when it is dropped.
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { token: Some(self) }
    }

    /// Registers a watcher, or answers the reason if the token was cancelled by a call.
    pub(crate) fn watch(&self, watcher: Watcher) -> Result<usize, (Watcher, CancelReason)> {
        // In a forked child, an inherited token's lock is not touched.
        if let Some(reason) = self.node.told() {
            return Err((watcher, reason));
        }
        self.insert(watcher, |_| ())
    }

    fn insert(&self, watcher: Watcher, more: impl FnOnce(&mut Inner)) -> Result<usize, (Watcher, CancelReason)> {
        let mut inner = self.node.inner.lock();
        if let Some(reason) = self.node.told() {
            return Err((watcher, reason));
        }
        more(&mut inner);
        Ok(inner.watchers.insert(watcher))
    }

    /// Takes a watcher out again, unless it has been told.
    pub(crate) fn unwatch(&self, key: usize) {
        if !self.node.is_live() {
            // Told, or inherited: then its lock is not touched.
            return;
        }
        let gone = {
            let mut inner = self.node.inner.lock();
            if !self.node.is_live() {
                return;
            }
            inner.watchers.try_remove(key)
        };
        // A waker's destructor is user code: outside the lock.
        drop(gone);
    }

    /// How many watch it.
    #[cfg(all(test, loom))]
    pub(crate) fn watchers(&self) -> usize {
        self.node.inner.lock().watchers.len()
    }

    /// Puts a task under this token, which the caller knows is not inherited. If it was cancelled, the reason comes back.
    pub(crate) fn link(&self, task: SlotRef, end: EndTasks) -> Result<Link, (SlotRef, CancelReason)> {
        match self.insert(Watcher::Task(task), |inner| inner.end = Some(end)) {
            Ok(key) => Ok(Link {
                token: self.clone(),
                key,
            }),
            Err((Watcher::Task(task), reason)) => Err((task, reason)),
            Err(_) => unreachable!("a watcher comes back as it went in"),
        }
    }
}

impl Node {
    fn expired(&self) -> bool {
        self.deadline != NEVER && clock::now() >= self.deadline
    }

    fn told(&self) -> Option<CancelReason> {
        if self.is_live() {
            return None;
        }
        self.reason.get().cloned().or(Some(CancelReason::Forked))
    }

    /// Neither cancelled nor inherited. (It may be late.)
    #[inline]
    fn is_live(&self) -> bool {
        self.live_in.load(Ordering::Acquire) == fork::generation()
    }

    /// Whether it is of the process that forked this one.
    fn is_inherited(&self) -> bool {
        self.born != fork::generation()
    }
}

impl Drop for CancellationToken {
    fn drop(&mut self) {
        // SAFETY: taken once; `self` is not used afterwards.
        let mut node = unsafe { ManuallyDrop::take(&mut self.node) };
        // Invariant 5: walk up instead of recursing.
        while let Some(mut last) = Arc::into_inner(node) {
            if last.is_inherited() {
                std::mem::forget(last);
                break;
            }
            let Some(parent) = last.parent.take() else { break };
            parent.node.inner.lock().children.try_remove(parent.key);
            node = parent.node;
        }
    }
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken")
            .field("reason", &self.reason())
            .field("time_left", &self.time_left())
            .finish_non_exhaustive()
    }
}

/// Cancels its token when dropped. See [`CancellationToken::drop_guard`].
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancellationToken>,
}

impl DropGuard {
    /// Gives the token back; it is not cancelled.
    pub fn disarm(mut self) -> CancellationToken {
        self.token.take().unwrap_or_default()
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            token.cancel_with(CancelReason::Dropped);
        }
    }
}

/// Future of [`CancellationToken::cancelled`].
#[must_use = "futures do nothing unless polled"]
pub struct WaitForCancellation {
    token: CancellationToken,
    watch: Option<usize>,
    alarm: Option<crate::alarm::Alarm>,
}

impl fmt::Debug for WaitForCancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForCancellation")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl Future for WaitForCancellation {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Some(key) = this.watch.take() {
            this.token.unwatch(key);
        }
        if this.token.is_cancelled() {
            return Poll::Ready(());
        }
        match this.token.watch(Watcher::Waker(cx.waker().clone())) {
            Ok(key) => this.watch = Some(key),
            Err(_) => return Poll::Ready(()),
        }
        this.alarm = crate::alarm::Alarm::at(this.token.node.deadline, cx.waker());
        Poll::Pending
    }
}

impl Drop for WaitForCancellation {
    fn drop(&mut self) {
        if let Some(key) = self.watch.take() {
            self.token.unwatch(key);
        }
    }
}

/// A token that is known but not held.
#[cfg(feature = "signals")]
#[derive(Clone)]
pub(crate) struct WeakToken(std::sync::Weak<Node>);

#[cfg(feature = "signals")]
impl WeakToken {
    /// The token, if somebody holds it.
    pub(crate) fn upgrade(&self) -> Option<CancellationToken> {
        self.0.upgrade().map(CancellationToken::from_node)
    }
}

#[cfg(feature = "signals")]
impl CancellationToken {
    pub(crate) fn downgrade(&self) -> WeakToken {
        WeakToken(Arc::downgrade(&self.node))
    }

    /// Has something dropped with the token, which is one of this process.
    pub(crate) fn hold(&self, kept: Box<dyn std::any::Any + Send + Sync>) {
        self.node.kept.lock().push(kept);
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        !self.node.is_inherited()
    }
}

#[cfg(feature = "tokio")]
impl CancellationToken {
    /// A child of this token that is also cancelled when `theirs` is.
    ///
    /// Watches from a task of the tokio runtime `on`, which ends when `theirs` is cancelled or the child's last
    /// handle is dropped.
    pub fn follow(&self, theirs: tokio_util::sync::CancellationToken, on: &tokio::runtime::Handle) -> Self {
        let child = self.child();
        let dropped = tokio_util::sync::CancellationToken::new();
        child.node.kept.lock().push(Box::new(dropped.clone().drop_guard()));
        let ours = Arc::downgrade(&child.node);
        on.spawn(async move {
            let mut cancelled = std::pin::pin!(theirs.cancelled());
            let mut dropped = std::pin::pin!(dropped.cancelled());
            let follows = std::future::poll_fn(|cx| {
                if cancelled.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                dropped.as_mut().poll(cx).map(|()| false)
            });
            if follows.await
                && let Some(ours) = ours.upgrade()
            {
                Self::from_node(ours).cancel_with("its tokio token was cancelled");
            }
        });
        child
    }

    /// A tokio token that is cancelled when this one is. Watches from a task of the tokio runtime `on`, which lives
    /// until this token is cancelled: make one a token, not one a request.
    pub fn to_tokio(&self, on: &tokio::runtime::Handle) -> tokio_util::sync::CancellationToken {
        let theirs = tokio_util::sync::CancellationToken::new();
        let (watched, child) = (self.cancelled(), theirs.clone());
        on.spawn(async move {
            watched.await;
            child.cancel();
        });
        theirs
    }
}
