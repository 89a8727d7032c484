#!/bin/sh
# Prints the path of the first Python that runs, is 3.11, 3.12 or 3.13 and can make a virtual environment; else says why
# none fits. Where PYTHON is set, that one alone is tried: a path, a name such as python3.12, or a version such as 3.12.
# A name on PATH may be a shim that fails, so every entry of PATH is tried and asked for its version; last of all pyenv,
# whose shim fails for every version but the chosen one, is asked where it keeps that name.

facts='import sys, venv; print("%d.%d.%d" % sys.version_info[:3], int((3, 11) <= sys.version_info[:2] < (3, 14)))'
seen=""

try() { # PATH: prints it and ends the script if it fits, else remembers what was found
    answer=$("$1" -c "$facts" 2>/dev/null </dev/null) || { seen="$seen  $1: does not run, or lacks the module venv
"; return; }
    [ "${answer#* }" = 1 ] && { echo "$1"; exit 0; }
    case "$seen" in *"  $1: "*) ;; *) seen="$seen  $1: is Python ${answer% *}
" ;; esac
}

try_name() { # NAME: tries it in every folder of PATH, then pyenv's
    IFS=:
    for folder in $PATH; do
        [ -x "$folder/$1" ] && try "$folder/$1"
    done
    unset IFS
    prefix=$(pyenv prefix "${1#python}" 2>/dev/null </dev/null) && [ -x "$prefix/bin/$1" ] && try "$prefix/bin/$1"
}

names="python3.11 python3.12 python3.13 python3"
case "${PYTHON:-}" in
"") for name in $names; do try_name "$name"; done ;;
*/*) names=$PYTHON; try "$PYTHON" ;;
[0-9]*) names=python$PYTHON; try_name "$names" ;;
*) names=$PYTHON; try_name "$names" ;;
esac

# printf is the shell's own: nothing but a shell is needed to get this far.
printf '%s\n' "shopfloor needs Python 3.11, 3.12 or 3.13, and none was found:" \
    "${seen:-  no $names on PATH
}" \
    "Other versions do not work: PyBullet, the physics engine, has no wheels for them, so that installing it fails in the" \
    "middle of a long compilation." \
    "What to do: install Python 3.11 (Debian 12: apt-get install python3.11 python3.11-venv; anywhere: uv python" \
    "install 3.11, pyenv install 3.11 or conda create -n shopfloor python=3.11), then run make again, or name it:" \
    "  make demo PYTHON=/path/to/python3.11" >&2
exit 2
