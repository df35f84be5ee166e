//! The terminal: drawn and read on a thread of its own, so that a slow one never slows the engine.

use super::{Key, Look, Scene, View, draw};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An open view. Closing or dropping it gives the terminal back as it was; a panic does too.
pub struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

struct Shared {
    scene: Mutex<Scene>,
    over: AtomicBool,
    /// The terminal was given back. Twice would put the cursor back on what was printed meanwhile.
    restored: AtomicBool,
}

impl Screen {
    /// Takes the terminal. A key that ends the run sets `stop`; so does a terminal that fails.
    ///
    /// # Errors
    /// When the terminal can't be taken.
    pub fn open(scene: Scene, look: Look, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let view = View::new(look, scene.clone());
        let shared = Arc::new(Shared {
            scene: Mutex::new(scene),
            over: AtomicBool::new(false),
            restored: AtomicBool::new(false),
        });
        // Its panic hook gives the terminal back before the message is printed.
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        let (hook, panicked) = (std::panic::take_hook(), shared.clone());
        std::panic::set_hook(Box::new(move |info| {
            panicked.over.store(true, Ordering::Relaxed);
            panicked.restored.store(true, Ordering::Relaxed);
            hook(info);
        }));
        let mut screen = Screen { shared: shared.clone(), thread: None };
        let body = move || {
            let _ended = SetOnDrop(stop.clone());
            watch(view, terminal, &shared, &stop)
        };
        screen.thread = Some(
            std::thread::Builder::new()
                .name("view".into())
                .spawn(body)
                .inspect_err(|_| ratatui::restore())?,
        );
        Ok(screen)
    }

    /// The scene, to be fed. Held briefly.
    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        lock(&self.shared)
    }

    /// Gives the terminal back.
    ///
    /// # Errors
    /// When the terminal failed meanwhile.
    pub fn close(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.shared.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let told = thread.join();
        if !self.shared.restored.swap(true, Ordering::Relaxed) {
            ratatui::restore();
        }
        told.unwrap_or_else(|_| Err(io::Error::other("the view panicked")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever closes hears of a failure; here another error is already on its way.
        let _ = self.end();
    }
}

/// However the view ends, the run ends too: nobody is left to see it.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Scene> {
    shared.scene.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws a frame, then listens to keys until the next is due.
fn watch(
    mut view: View,
    mut terminal: DefaultTerminal,
    shared: &Shared,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut keys = true;
    while !shared.over.load(Ordering::Relaxed) {
        let due = Instant::now() + FRAME;
        let scene = lock(shared).clone();
        view.update(scene);
        terminal.draw(|frame| draw::draw(&view, frame))?;
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() || shared.over.load(Ordering::Relaxed) {
                break;
            }
            // Without a keyboard the view is still worth seeing.
            match if keys { event::poll(wait) } else { Err(io::ErrorKind::Unsupported.into()) } {
                Ok(false) => {}
                Ok(true) => {
                    if let Event::Key(pressed) = event::read()?
                        && let Some(key) = key_of(&pressed)
                        && !view.press(key)
                    {
                        quit(stop);
                    }
                }
                Err(_) => {
                    keys = false;
                    std::thread::sleep(wait);
                }
            }
        }
    }
    Ok(())
}

/// Asks the run to end; asked twice, the process ends at once, as with an interrupt.
fn quit(stop: &AtomicBool) {
    if stop.swap(true, Ordering::Relaxed) {
        ratatui::restore();
        std::process::exit(1);
    }
}

fn key_of(pressed: &KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    match pressed.code {
        KeyCode::Char('c' | 'd') if control => Some(Key::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char(' ') => Some(Key::Freeze),
        KeyCode::Char('f') => Some(Key::Follow),
        KeyCode::Tab | KeyCode::Right | KeyCode::Down => Some(Key::Next),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Up => Some(Key::Previous),
        _ => None,
    }
}

/// At most ten frames a second.
const FRAME: Duration = Duration::from_millis(100);
