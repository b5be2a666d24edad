"""The exported form of a session: records of JSON, written and read. No I/O in here.

A record is a kind and a JSON object. In their order: "export" (the form's version and the session), "task", "bookmark", "message", "end"
(how many there were of each, so that an export that was cut off is noticed). Before the first message that refers to an asset comes its
content, in "asset" records of a piece each. A file of JSON lines has a record a line, its kind among the fields; the dict of `export()` has
the same objects in lists, an asset's pieces as one."""
