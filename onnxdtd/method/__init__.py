"""Methods as data: propagation rules and presets from TOML, and how any rule is applied to any layer."""
