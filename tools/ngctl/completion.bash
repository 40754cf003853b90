# SPDX-License-Identifier: GPL-2.0
# Completion of ngctl(1) for bash.

_ngctl() {
	local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words
	case $COMP_CWORD,$command in
	1,*) words="list info who kv doctor top --help --version" ;;
	2,kv) words="store retrieve delete exist list --help" ;;
	*,list) words="--json --help" ;;
	2,info | 2,who) words="$(compgen -G '/dev/ng*') --json --help" ;;
	*,doctor) words="$(compgen -G '/dev/ng*') --opcode --admin --cdw10 --json --help" ;;
	*,top) words="--interval --count --json --help" ;;
	3,kv) words=$(compgen -G '/dev/ng*') ;;
	5,kv)
		case ${COMP_WORDS[2]} in
		store | retrieve) compopt -o default ;;
		esac
		;;
	esac
	[[ ${COMP_WORDS[2]} != store || $COMP_CWORD -lt 5 ]] || words="--new --replace"
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _ngctl ngctl
