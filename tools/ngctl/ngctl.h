/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NGCTL_H
#define NGCTL_H

#include <stdbool.h>
#include <stdio.h>
#include <nvmeng.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define __printf(a, b)	__attribute__((format(printf, a, b)))
#define __noreturn	__attribute__((noreturn))

#define SYSFS_GENERIC	"/sys/class/nvme-generic"
#define SYSFS_CTRL	"/sys/class/nvme"

/* exit status */
enum {
	EXIT_NO = 1,	/* no such key; doctor has found something */
	EXIT_BAD = 2,	/* anything else that is not as it should be */
};

extern bool json;

__printf(1, 2) __noreturn void die(const char *format, ...);
/* What this call said, in one line. */
__noreturn void die_call(const char *what, enum nvmeng_call call, int result);
void *must_alloc(size_t size);
unsigned long number(const char *text, unsigned long max, const char *what);

/* JSON, written as it is formed.  A key of NULL is for elements of arrays. */
void json_open(const char *key, char bracket);
void json_close(void);
void json_string(const char *key, const char *value);
void json_bytes(const char *key, const void *bytes, size_t len);
void json_number(const char *key, unsigned long long value);
void json_bool(const char *key, bool value);
void json_limits(const struct nvme_ng_limits *lim);

/**
 * struct node - what can be known of the node of a namespace without opening it
 * @name: such as "ng0n1"
 * @path: such as "/dev/ng0n1"
 * @parent: its controller or subsystem
 * @serial: serial number
 * @model: model number
 * @firmware: firmware revision
 * @controllers: names of the controllers behind it, with spaces between
 * @transport: such as "pcie"
 * @dead: the state of the first controller that is not live, or empty
 * @block: name of its block device, or empty
 * @dev: device number
 * @lim: nsid, csi and the others; all but nsid are 0 unless @known
 * @known: the driver is nvme-ng and has told
 * @nsid_known: the nsid could be found
 */
struct node {
	char name[32];
	char path[64];
	char parent[32];
	char serial[24];
	char model[48];
	char firmware[16];
	char controllers[128];
	char transport[16];
	char dead[16];
	char block[32];
	dev_t dev;
	struct nvme_ng_limits lim;
	bool known;
	bool nsid_known;
};

/* Read a line of a file below a directory of sysfs or the like. */
bool read_line(char *line, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
unsigned int find_nodes(struct node **nodes);
/* The node of that name or path; ends the program if there is none. */
void find_node(const char *name, struct node *node);
const char *node_access(const struct node *node);
const char *csi_name(unsigned int csi);
const char *node_format(const struct node *node, char *text, size_t size);
const char *bytes(unsigned long long number, char *text);
#define BYTES_LEN	32

/* Version of nvme-core as it is loaded, or NULL; whether it is nvme-ng. */
const char *driver_version(void);
bool driver_is_ours(void);
const char *driver_name(void);

/**
 * struct opener - a process that has a node open
 * @pid: its id
 * @comm: its name
 * @uid: effective user
 * @fd: descriptor of the node, or of the ring that has it registered
 * @ring: it is registered with a ring
 * @mode: "r", "w", "rw", or "" of a ring
 * @pinned: pinned memory of the process in bytes, VmPin
 * @said: lines of fdinfo that are the driver's own
 */
struct opener {
	int pid;
	char comm[20];
	unsigned int uid;
	int fd;
	bool ring;
	const char *mode;
	unsigned long long pinned;
	char said[1024];
};

/* Calls @found for each process that has one of the nodes open. */
void find_openers(const struct node *nodes, unsigned int n,
		  void (*found)(const struct node *node,
				const struct opener *opener, void *arg),
		  void *arg);

/* Who may send a command, and by which rule; true if this process may. */
bool access_explain(const struct node *node, bool admin, unsigned int opcode,
		    unsigned int dw10, char *text, size_t size);

int cmd_list(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_who(int argc, char **argv);
int cmd_kv(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_top(int argc, char **argv);

#endif /* NGCTL_H */
