//! The SkyPilot source.
