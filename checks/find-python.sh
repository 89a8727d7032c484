#!/bin/sh
# Prints the path of the first Python that runs, is 3.10 or 3.11 and can make a virtual environment; else says why none
# fits. PYTHON=/path/to/python is tried before all others, and then alone.
# A name on PATH may be a shim that fails, so every entry of PATH is tried and asked for its version.

facts='import sys, venv; print("%d.%d.%d" % sys.version_info[:3], int((3, 10) <= sys.version_info[:2] < (3, 12)))'
seen=""

try() { # PATH: prints it and ends the script if it fits, else remembers what was found
    answer=$("$1" -c "$facts" 2>/dev/null </dev/null) || { seen="$seen  $1: does not run, or lacks the module venv
"; return; }
    [ "${answer#* }" = 1 ] && { echo "$1"; exit 0; }
    case "$seen" in *"  $1: "*) ;; *) seen="$seen  $1: is Python ${answer% *}
" ;; esac
}

if [ -n "${PYTHON:-}" ]; then
    chosen=$(command -v "$PYTHON" || echo "$PYTHON")
    try "$chosen"
else
    for name in python3.11 python3.10 python3; do
        IFS=:
        for folder in $PATH; do
            [ -x "$folder/$name" ] && try "$folder/$name"
        done
        unset IFS
    done
fi

# printf is the shell's own: nothing but a shell is needed to get this far.
printf '%s\n' "shopfloor needs Python 3.10 or 3.11, and none was found:" \
    "${seen:-  no python3.11, python3.10 or python3 on PATH
}" \
    "Python 3.12 and later do not work: PyBullet, the physics engine, has wheels for Python 3.8 to 3.11 only, so that" \
    "installing it there fails in the middle of a long compilation." \
    "What to do: install Python 3.11 (Debian 12: apt-get install python3.11 python3.11-venv; anywhere: uv python" \
    "install 3.11, pyenv install 3.11 or conda create -n shopfloor python=3.11), then run make again, or name it:" \
    "  make demo PYTHON=/path/to/python3.11" >&2
exit 2
