# Install bubblewrap, which the tests of sandboxes need, where we may. It is not an error if we may
# not: those tests then say that they have not run.
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
install="apt-get install -y -q --no-install-recommends bubblewrap"

if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
	$as_root $install >/dev/null 2>&1 || { $as_root apt-get update -q && $as_root $install; } >/dev/null 2>&1
fi
command -v bwrap >/dev/null || {
	echo "bubblewrap (bwrap) is not here, and could not be installed:" >&2
	echo "the tests of sandboxes will be skipped with NOT TESTED. Install it and run them again." >&2
}
