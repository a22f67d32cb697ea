//! One guest: a kernel, a disk, a cable, and the program that it runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::guest::wire::{Wire, address};
use crate::process::Process;
use crate::{programs, wait};

/// Where the guest's disk is mounted in the guest. Nothing else there survives a cut.
pub const DISK: &str = "/run/disk";

/// Said on the console once the disk is mounted and checked.
pub const MOUNTED: &str = "guest: the disk is mounted";

const IMAGE_MEGABYTES: u64 = 512;
const MEMORY: &str = "512M";
/// Until a killed guest is gone, with every process that it consists of.
const CUT_LIMIT: Duration = Duration::from_secs(20);

/// Lines of a console that are printed when a test has failed.
const CONSOLE_LINES_SHOWN: usize = 40;

/// What a guest does first, whatever it is for. The two programs at the end are the controls:
/// see [`crate::guest::controls`].
const FIRST: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t tmpfs tmpfs /run
mkdir /run/disk && mount -t ext4 /dev/ubda /run/disk || { echo "guest: no disk"; exec sleep 99999; }
ip link set lo up && ip address add ADDRESS/24 dev vec0 && ip link set vec0 up
for kind in careless careful; do
  touch /run/disk/$kind
  echo "control $kind found $(wc -l < /run/disk/$kind)"
done
echo "guest: the disk is mounted"
{
  careless=$(wc -l < /run/disk/careless); careful=$(wc -l < /run/disk/careful)
  while true; do
    careless=$((careless + 1)); echo $careless >> /run/disk/careless
    echo "control careless wrote $careless"
    careful=$((careful + 1)); echo $careful >> /run/disk/careful
    sync /run/disk/careful && echo "control careful wrote $careful"
    sleep 0.4
  done
} &
"#;

/// A machine of its own, which may be without power.
#[derive(Debug)]
pub struct Guest {
    /// What runs on it is called so too.
    pub name: String,
    number: usize,
    folder: PathBuf,
    cable: String,
    boots: usize,
    process: Option<Process>,
}

impl Guest {
    /// Makes the disk and the cable of the guest with this number, counted from 1.
    pub fn prepare(workplace: &Path, wire: &Wire, name: &str, number: usize) -> Self {
        let guest = Self {
            name: name.to_owned(),
            number,
            folder: workplace.to_path_buf(),
            cable: wire.cable(number),
            boots: 0,
            process: None,
        };
        let image = std::fs::File::create(guest.image()).expect("the workplace is writable");
        image.set_len(IMAGE_MEGABYTES * 1024 * 1024).expect("a file may have holes");
        let program = programs::on_path("mkfs.ext4").expect("looked for before");
        let made = Command::new(program).args(["-q", "-F"]).arg(guest.image()).output();
        let made = made.expect("looked for before");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        guest
    }

    fn image(&self) -> PathBuf {
        self.folder.join(format!("{}.ext4", self.name))
    }

    /// Its address on the wire.
    pub fn address(&self) -> String {
        address(self.number)
    }

    /// Switches it on. `program` are lines for a shell, run when the disk is mounted.
    pub fn boot(&mut self, program: &str) {
        assert!(self.process.is_none(), "{} has power already", self.name);
        self.boots += 1;
        let script = self.folder.join(format!("{}.boot.sh", self.name));
        let last = "echo \"guest: the program ended with $?\"\nexec sleep 99999\n";
        let text = format!("{}{program}\n{last}", FIRST.replace("ADDRESS", &self.address()));
        write_executable(&script, &text);
        let kernel = programs::guest_kernel().expect("looked for before");
        // A guest is several processes. In a process namespace they all end with the first, and
        // that with `unshare`, which ends with the thread that runs this test.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"]);
        command.arg(kernel);
        command.args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"]);
        command.args(["con0=null,fd:1", "con=null", "quiet", "loglevel=3"]);
        command.arg(format!("mem={MEMORY}"));
        command.arg(format!("init={}", script.display()));
        command.arg(format!("ubda={}", self.image().display()));
        command.arg(format!("vec0:transport=tap,ifname={},depth=64,gro=1", self.cable));
        command.arg(format!("uml_dir={}", self.folder.join("uml").display()));
        command.arg(format!("umid={}-{}", self.name, self.boots));
        let console = self.console_file(self.boots);
        self.process = Some(Process::start(&self.name, &mut command, &console));
    }

    /// Takes its power, and waits until nothing of it runs any more.
    pub async fn cut(&mut self) {
        let mut process = self.process.take().expect("only a guest with power can lose it");
        let id = process.id();
        let what = "the guest's first process runs";
        let first = wait::until(what, CUT_LIMIT, || async { first_child(id) }).await;
        // It may have ended by itself: then there is nobody to kill.
        let _ = kill_process(first, Signal::KILL);
        process.wait(CUT_LIMIT).await;
    }

    /// What it has written to its console since it was switched on last.
    pub fn console(&self) -> String {
        self.console_of(self.boots)
    }

    /// What it wrote to its console between two cuts, counted from 1.
    pub fn console_of(&self, boot: usize) -> String {
        let bytes = std::fs::read(self.console_file(boot)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How often it was switched on.
    pub fn boots(&self) -> usize {
        self.boots
    }

    fn console_file(&self, boot: usize) -> PathBuf {
        self.folder.join(format!("{}.console.{boot}", self.name))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = self.console();
            let lines: Vec<&str> = console.lines().filter(|it| !it.contains("control ")).collect();
            let from = lines.len().saturating_sub(CONSOLE_LINES_SHOWN);
            let tail = lines.get(from..).unwrap_or_default().join("\n");
            eprintln!("--- the console of {}, without its controls ---\n{tail}", self.name);
        }
    }
}

/// The first child of a process, if it has one yet.
fn first_child(id: u32) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

fn write_executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("the workplace is writable");
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(path, mode).expect("our own file");
}
