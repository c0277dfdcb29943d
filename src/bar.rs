//! The progress bar: rate and ETA on standard error, invisible where that is no terminal. Without the command line there is none.

#[cfg(feature = "cli")]
mod shown {
    use std::fmt::Write;

    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

    use crate::host::Host;
    use crate::metrics::{duration, rate};

    #[derive(Debug)]
    pub(crate) struct Bar(ProgressBar, Host);

    /// Rate and time left; nothing before there is a rate.
    fn pace(state: &ProgressState, out: &mut dyn Write) {
        if state.per_sec() > 0.0 && state.pos() > 0 {
            let _ = write!(out, "  {}/s  ETA {}", rate(state.per_sec()), duration(state.eta().as_secs_f64()));
        }
    }

    impl Bar {
        pub(crate) fn new(host: &Host, total: u64, unit: &str) -> Option<Bar> {
            if !host.terminal() {
                return None;
            }
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
            let style = ProgressStyle::with_template(&format!("{{bar:20}} {{pos}}/{{len}} {unit}{{pace}}  {{msg}}"));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("pace", pace));
            Some(Bar(bar, host.clone()))
        }

        /// The bar, drawn from the moment at which the terminal has room for it.
        fn bar(&self) -> &ProgressBar {
            if self.0.is_hidden() && self.1.has_room_for_bars() {
                self.0.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            }
            &self.0
        }

        pub(crate) fn start_at(&self, position: u64) {
            self.bar().set_position(position);
            self.0.reset_eta();
        }

        pub(crate) fn say(&self, line: &str) {
            self.0.suspend(|| self.1.say(line));
        }

        pub(crate) fn show(&self, position: u64, message: &str) {
            self.bar().set_position(position);
            self.0.set_message(message.to_string());
        }

        pub(crate) fn add(&self, n: u64) {
            self.bar().inc(n);
        }

        pub(crate) fn clear(&self) {
            self.0.finish_and_clear();
        }
    }
}

#[cfg(not(feature = "cli"))]
mod shown {
    #[derive(Debug)]
    pub(crate) enum Bar {}

    impl Bar {
        pub(crate) fn new(_host: &crate::host::Host, _total: u64, _unit: &str) -> Option<Bar> {
            None
        }

        pub(crate) fn start_at(&self, _position: u64) {
            match *self {}
        }

        pub(crate) fn say(&self, _line: &str) {
            match *self {}
        }

        pub(crate) fn show(&self, _position: u64, _message: &str) {
            match *self {}
        }

        pub(crate) fn clear(&self) {
            match *self {}
        }
    }
}

pub(crate) use shown::Bar;
