// SPDX-License-Identifier: GPL-2.0
/* ngctl who: descriptors of nodes, as /proc shows them. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ngctl.h"

/* What every file has in its fdinfo. */
static bool is_common(const char *line)
{
	static const char *const names[] = { "pos:", "flags:", "mnt_id:", "ino:",
					     "lock:" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strncmp(line, names[i], strlen(names[i])))
			return true;
	}
	return false;
}

/* fdinfo of a node: how it was opened, and what the driver says. */
static void node_fdinfo(FILE *file, struct opener *opener)
{
	static const char *const modes[] = { "r", "w", "rw", "" };
	unsigned int flags;
	char line[256];

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "flags: %o", &flags) == 1)
			opener->mode = modes[flags & O_ACCMODE];
		else if (!is_common(line) &&
			 strlen(opener->said) + strlen(line) < sizeof(opener->said))
			strcat(opener->said, line);
	}
}

static const struct node *node_of(const struct node *nodes, unsigned int n,
				  const char *path)
{
	struct stat st;
	unsigned int i;

	if (stat(path, &st) || !S_ISCHR(st.st_mode))
		return NULL;
	for (i = 0; i < n; i++) {
		if (nodes[i].dev == st.st_rdev)
			return &nodes[i];
	}
	return NULL;
}

/* fdinfo of a ring: the next node that is registered with it */
static const struct node *ring_fdinfo(FILE *file, const struct node *nodes,
				      unsigned int n)
{
	char line[PATH_MAX + 32], path[PATH_MAX];
	const struct node *node;
	unsigned int index;

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " %u: %4095s", &index, path) != 2 ||
		    path[0] != '/')
			continue;
		node = node_of(nodes, n, path);
		if (node)
			return node;
	}
	return NULL;
}

static void read_process(struct opener *opener)
{
	char path[64], line[256];
	unsigned long long pinned;
	FILE *file;

	read_line(opener->comm, sizeof(opener->comm), "/proc/%d/comm",
		  opener->pid);
	snprintf(path, sizeof(path), "/proc/%d/status", opener->pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "Uid: %*u %u", &opener->uid);
		if (sscanf(line, "VmPin: %llu", &pinned) == 1)
			opener->pinned = pinned * 1024;
	}
	if (file)
		fclose(file);
}

static void look_at(struct opener *opener, const struct node *nodes,
		    unsigned int n,
		    void (*found)(const struct node *node,
				  const struct opener *opener, void *arg),
		    void *arg)
{
	const struct node *node = NULL;
	char path[64], target[64];
	ssize_t len;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", opener->pid, opener->fd);
	len = readlink(path, target, sizeof(target) - 1);
	target[len < 0 ? 0 : len] = '\0';
	opener->ring = !strcmp(target, "anon_inode:[io_uring]");
	if (!opener->ring) {
		node = node_of(nodes, n, path);
		if (!node)
			return;
	}
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", opener->pid,
		 opener->fd);
	file = fopen(path, "re");
	if (!file)
		return;
	opener->mode = "";
	opener->said[0] = '\0';
	if (node)
		node_fdinfo(file, opener);
	else
		node = ring_fdinfo(file, nodes, n);
	if (node)
		read_process(opener);
	while (node) {
		found(node, opener, arg);
		node = opener->ring ? ring_fdinfo(file, nodes, n) : NULL;
	}
	fclose(file);
}

void find_openers(const struct node *nodes, unsigned int n,
		  void (*found)(const struct node *node,
				const struct opener *opener, void *arg),
		  void *arg)
{
	struct dirent *process, *entry;
	DIR *proc = opendir("/proc"), *fds;
	char path[64];

	while (proc && (process = readdir(proc))) {
		struct opener opener = { .pid = atoi(process->d_name) };

		if (!opener.pid)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd", opener.pid);
		fds = opendir(path);
		while (fds && (entry = readdir(fds))) {
			if (!isdigit((unsigned char)entry->d_name[0]))
				continue;
			opener.fd = atoi(entry->d_name);
			look_at(&opener, nodes, n, found, arg);
		}
		if (fds)
			closedir(fds);
	}
	if (proc)
		closedir(proc);
}

static void print_opener(const struct node *node, const struct opener *o,
			 void *arg)
{
	char text[BYTES_LEN], *line, *save, *said = strdup(o->said);

	(void)arg;
	if (json) {
		json_open(NULL, '{');
		json_string("node", node->path);
		json_number("pid", o->pid);
		json_string("comm", o->comm);
		json_number("uid", o->uid);
		json_number("fd", o->fd);
		json_bool("ring", o->ring);
		json_string("mode", o->mode);
		json_number("pinned", o->pinned);
		json_open("fdinfo", '[');
	} else {
		printf("%-14s %7d %-16s %5u %4d %-4s %s\n", node->path, o->pid,
		       o->comm, o->uid, o->fd, o->ring ? "ring" : o->mode,
		       bytes(o->pinned, text));
	}
	for (line = strtok_r(said, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (json)
			json_string(NULL, line);
		else
			printf("%-14s %7s %s\n", "", "", line);
	}
	if (json) {
		json_close();
		json_close();
	}
	free(said);
}

int cmd_who(int argc, char **argv)
{
	unsigned int n = 1;
	struct node *nodes;

	if (argc > 1)
		die("who takes one NODE or none: see ngctl who --help");
	if (argc) {
		nodes = must_alloc(sizeof(*nodes));
		find_node(argv[0], nodes);
	} else {
		n = find_nodes(&nodes);
	}
	if (json)
		json_open(NULL, '[');
	else
		printf("%-14s %7s %-16s %5s %4s %-4s %s\n", "NODE", "PID",
		       "COMMAND", "UID", "FD", "MODE", "PINNED");
	find_openers(nodes, n, print_opener, NULL);
	if (json)
		json_close();
	if (geteuid())
		fputs("ngctl: processes of other users are seen by root only\n",
		      stderr);
	free(nodes);
	return 0;
}
