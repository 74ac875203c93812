#!/bin/sh
# Boot script of a burst node: reads its configuration from the metadata, and starts a broker
# that joins the lead. It prints no secrets; its output goes to the serial port.
#
# Compute Engine runs it as root at every boot. It needs curl and Flux, and MUNGE if there is a
# key. FLUXBURST_METADATA and FLUXBURST_ROOT may name another metadata server and another root.
set -eu
umask 077

metadata=${FLUXBURST_METADATA:-http://metadata.google.internal/computeMetadata/v1/instance}
root=${FLUXBURST_ROOT:-}
home=$root/etc/fluxburst

say() { echo "fluxburst: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# Print a value of this machine's metadata.
value() { curl -fsS --retry 5 --retry-connrefused -H 'Metadata-Flavor: Google' "$metadata/$1"; }
attribute() { value "attributes/fluxburst-$1"; }

# Keep an attribute in a file; the file of an earlier boot will do, since secrets are taken out of
# the metadata once the node has joined.
keep() {
    if attribute "$1" >"$2.new" 2>/dev/null; then
        mv "$2.new" "$2"
    else
        rm -f "$2.new"
        [ -s "$2" ] || fail "the metadata have no $1, and no earlier boot has saved it"
    fi
}

name=$(value name) || fail "the metadata server does not answer"
user=$(attribute user)
uid=$(attribute uid)
flux=$(attribute flux)
level=$(attribute log-level)
wrap=$(attribute wrap)

command -v "$flux" >/dev/null || fail "$flux does not exist in this image"
if ! id "$user" >/dev/null 2>&1; then
    useradd --create-home --uid "$uid" "$user" || fail "cannot create the user $user"
fi
[ "$(id -u "$user")" = "$uid" ] || fail "the user id of $user differs from $uid, the lead's"

mkdir -p "$home/config"
keep curve-cert "$home/curve.cert"
keep config "$home/config/system.toml"
isolated=$(attribute isolated)
if [ "$isolated" = true ]; then
    keep job "$home/job.json"
    keep program "$home/program"
else
    keep resources "$home/R"
fi
chown -R "$user" "$home"

if [ "$(attribute munge)" = true ]; then
    mkdir -p "$root/etc/munge"
    keep munge-key "$root/etc/munge/munge.key.base64"
    base64 -d "$root/etc/munge/munge.key.base64" >"$root/etc/munge/munge.key"
    chmod 400 "$root/etc/munge/munge.key"
    chown munge: "$root/etc/munge/munge.key" 2>/dev/null || fail "MUNGE is not installed in this image"
    systemctl restart munge || fail "MUNGE does not start"
fi

run=$root/run/fluxburst
rm -rf "$run"
mkdir -p "$run"
chown "$user" "$run"
if [ "$isolated" = false ]; then
    guests=$("$flux" config get "--config-path=$home/config" --default=false access.allow-guest-user)
    [ "$guests" != true ] || chmod 0755 "$run" # their jobs reach their broker in it
fi

set -- "$flux" broker "--config-path=$home/config" "-Shostname=$name" \
    -Sbroker.boot-method=config "-Srundir=$run" \
    "-Slog-stderr-level=$level" -Slog-stderr-mode=local
if [ -n "$wrap" ]; then
    old=$IFS
    IFS=,
    # shellcheck disable=SC2086 # split at the commas
    set -- $wrap "$@"
    IFS=$old
fi

# A broker ends when its lead does: then the machine powers off, to save money. A machine of an
# isolated burst stays, so that its job's result can be read.
after="/bin/sh -c 'systemctl poweroff'"
[ "$isolated" = false ] || after=/bin/true
if [ "$isolated" = true ] && [ "$name" = "$(attribute lead)" ]; then
    set -- "$@" sh "$home/program" "$flux" "$home"
    after="/bin/sh $home/program $flux $home ended"
fi

say "starting the broker of $name"
if [ -d /run/systemd/system ] && [ -z "$root" ]; then
    # The kernel kills a job that takes too much memory, and Flux reports its exit code. The broker
    # must survive, unlike with systemd's default since version 243 (OOMPolicy).
    version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge 243 ]; then
        set -- --property=OOMPolicy=continue -- "$@"
    else
        set -- -- "$@"
    fi
    exec systemd-run --unit=fluxburst --collect --property="User=$user" \
        --property=Delegate=yes --property=LimitMEMLOCK=infinity --property=KillMode=mixed \
        --property=StandardOutput=journal+console --property=StandardError=journal+console \
        --property="ExecStopPost=+$after" "$@"
elif [ "$(id -un)" = "$user" ]; then
    exec "$@"
else
    exec runuser -u "$user" -- "$@"
fi
