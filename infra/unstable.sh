# Sourced: packages of Debian unstable, unpacked into a folder instead of installed. They come by an apt state of their
# own, so that the machine's apt never hears of unstable. Who sources it has `say` and `die`.

# retry COMMAND...: three times, because mirrors and networks fail for a moment.
retry() {
  local try
  for try in 1 2 3; do
    "$@" && return
    ((try < 3)) || break
    say "failed, trying again in $((try * 5)) s: $*" >&2
    sleep $((try * 5))
  done
  return 1
}

# The Debian mirror that this machine already uses.
# shellcheck disable=SC2016 # $(REPO_URI) is apt's own syntax
debian_mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p; }

# unpack_unstable INTO PACKAGE [--whole]: the package, and with --whole all that it depends on, down to the C library.
unpack_unstable() {
  local into=$1 package=$2 whole=${3-} apt=$1.apt mirror archive
  mirror=$(debian_mirror)
  [[ -n $mirror ]] || { retry apt-get -q update || true; mirror=$(debian_mirror); }
  [[ -n $mirror ]] || die "no Debian mirror in apt's sources (apt-get indextargets names none): add one to /etc/apt"
  say "fetching $package from Debian unstable"
  rm -rf "$apt" "$into"
  mkdir -p "$apt"/{lists/partial,cache/archives/partial} "$into.part"
  : >"$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror unstable main" >"$apt/sources.list"
  local private=(apt-get -q -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::status=$apt/status"
    -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache")
  local get=(download "$package")
  [[ -z $whole ]] || get=(install -y --no-install-recommends --download-only "$package")
  retry "${private[@]}" update --error-on=any || die "cannot read Debian unstable's package list (see above): check the network"
  (cd "$apt/cache/archives" && retry "${private[@]}" "${get[@]}") ||
    die "cannot download $package from Debian unstable (see above)"
  for archive in "$apt"/cache/archives/*.deb; do dpkg -x "$archive" "$into.part"; done
  mv "$into.part" "$into"
  rm -rf "$apt"
}
