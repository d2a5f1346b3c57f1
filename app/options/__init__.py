"""The settings, by what they are about; :class:`app.settings.Settings` has all of them."""
