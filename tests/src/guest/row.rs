//! A row of guests on one wire, each with its program.

use std::time::Duration;

use futures_util::future::join_all;

use crate::guest::controls::Controls;
use crate::guest::machine::{Guest, MOUNTED};
use crate::guest::wire::Wire;
use crate::wait;
use crate::workplace::Workplace;

/// Until a guest has booted, on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Guests, and what runs on them whenever they have power.
#[derive(Debug)]
pub struct Row {
    /// In the order of their addresses.
    pub guests: Vec<Guest>,
    programs: Vec<String>,
    // These two go last: the network and the files are in use until then.
    wire: Wire,
    workplace: Workplace,
}

impl Row {
    /// None yet, on a network that this thread has entered.
    pub fn new(wire: Wire) -> Self {
        Self { guests: Vec::new(), programs: Vec::new(), wire, workplace: Workplace::new() }
    }

    /// The folder of this test.
    pub fn workplace(&self) -> &Workplace {
        &self.workplace
    }

    /// One more guest, which runs these lines for a shell whenever it has booted.
    pub fn add(&mut self, name: &str, program: &str) {
        let number = self.guests.len() + 1;
        let mut guest = Guest::prepare(self.workplace.path(), &self.wire, name, number);
        guest.boot(program);
        self.guests.push(guest);
        self.programs.push(program.to_owned());
    }

    /// All of them.
    pub fn all(&self) -> Vec<usize> {
        (0..self.guests.len()).collect()
    }

    /// Takes the power of these guests, all at once.
    pub async fn cut(&mut self, which: &[usize]) {
        let all = self.guests.iter_mut().enumerate();
        let hit = all.filter(|(at, _)| which.contains(at)).map(|(_, guest)| guest.cut());
        join_all(hit).await;
    }

    /// Gives them power again, waits until their disks are mounted, and looks at what the cut
    /// has cost the control programs.
    pub async fn boot(&mut self, which: &[usize], controls: &mut Controls) {
        for at in which {
            if let (Some(guest), Some(program)) = (self.guests.get_mut(*at), self.programs.get(*at))
            {
                guest.boot(program);
            }
        }
        self.await_said(which, MOUNTED).await;
        for guest in which.iter().filter_map(|at| self.guests.get(*at)) {
            controls.look(guest);
        }
    }

    /// Waits until each of these has said `words` since it was switched on.
    pub async fn await_said(&self, which: &[usize], words: &str) {
        let these: Vec<&Guest> = which.iter().filter_map(|at| self.guests.get(*at)).collect();
        wait::until_true(&format!("guests say {words:?}"), BOOT_LIMIT, || async {
            these.iter().all(|guest| guest.console().contains(words))
        })
        .await;
    }
}
