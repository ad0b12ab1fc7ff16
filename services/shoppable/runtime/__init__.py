"""What every server of the suite shares: bootstrap, settings, errors, telemetry. Knows nothing of any service."""
