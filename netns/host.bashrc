# What bash reads first in a shell on a host: the user's own, then a prompt that names the host, as a container's does.
if [ -f ~/.bashrc ]; then . ~/.bashrc; fi
PS1='\u@$LAB_HOST:\w\$ '
# Where a prompt is made anew each time, ours comes last.
if [ -n "${PROMPT_COMMAND[*]-}" ]; then PROMPT_COMMAND+=("PS1='\\u@\$LAB_HOST:\\w\\$ '"); fi
