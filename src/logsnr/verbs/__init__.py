"""One file a verb: it turns parsed flags into calls of the library and the result into lines or JSON."""
