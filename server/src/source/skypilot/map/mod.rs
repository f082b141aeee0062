//! From SkyPilot's answers to rows. Pure; an unknown status is shown as it came.
