"""Policy files in YAML, JSON and TOML, with the place of every value."""
