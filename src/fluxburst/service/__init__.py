"""Running unattended: the loop, systemd, metrics, notifications."""
