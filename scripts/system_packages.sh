#!/bin/sh
# Make sure that the system libraries for Qt, OpenGL and a virtual screen are there.
# Installs what is missing when it may (root on Debian or Ubuntu); otherwise prints the
# one line to paste and fails. The list was proven on a bare Debian 12.
set -u

[ "$(uname -s)" = Linux ] || exit 0

known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null)
missing=""

need_library() { # need_library SONAME PACKAGE
    case "$known" in
        *"$1"*) ;;
        *) missing="$missing $2" ;;
    esac
}

need_library libGL.so.1 libgl1
need_library libEGL.so.1 libegl1
need_library libfontconfig.so.1 libfontconfig1
need_library libglib-2.0.so.0 libglib2.0-0
need_library libdbus-1.so.3 libdbus-1-3
need_library libxkbcommon-x11.so.0 libxkbcommon-x11-0
need_library libxcb-cursor.so.0 libxcb-cursor0
need_library libxcb-icccm.so.4 libxcb-icccm4
need_library libxcb-keysyms.so.1 libxcb-keysyms1
need_library libxcb-shape.so.0 libxcb-shape0
driver=""
for file in /usr/lib/*/dri/*_dri.so /usr/lib*/dri/*_dri.so; do
    [ -e "$file" ] && driver=$file
done
[ -n "$driver" ] || missing="$missing libgl1-mesa-dri"
command -v Xvfb >/dev/null 2>&1 || missing="$missing xvfb"
command -v xauth >/dev/null 2>&1 || missing="$missing xauth"
"${PYTHON:-python3}" -c "import ensurepip" 2>/dev/null || missing="$missing python3-venv"

[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing system packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # the list is meant to be split
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing \
        >/dev/null
    exit $?
fi
echo "Some system packages are missing. Please run this line, then try again:" >&2
if command -v apt-get >/dev/null 2>&1; then
    echo "  sudo apt-get update && sudo apt-get install -y$missing" >&2
else
    echo "  (the counterparts on your system of:$missing)" >&2
fi
exit 1
