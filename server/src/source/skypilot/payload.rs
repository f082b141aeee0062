//! The control lines in SkyPilot's log streams.
