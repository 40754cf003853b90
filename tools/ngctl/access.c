// SPDX-License-Identifier: GPL-2.0
/*
 * Why a command is refused: the rules of Documentation/access.rst, as
 * gen_access.py makes C of them, and what the controller says of the command.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/nvme_ioctl.h>

#include "access_rules.h"
#include "ngctl.h"

#define ADMIN_GET_LOG	0x02
#define LOG_EFFECTS	0x05
/* Of an I/O command.  The log takes a node that is open for writing. */
static bool read_effects(const struct node *node, unsigned int opcode,
			 __u32 *effects)
{
	struct nvme_passthru_cmd cmd = {
		.opcode = ADMIN_GET_LOG,
		.nsid = 0xffffffff,
		.data_len = 4096,
		.cdw10 = LOG_EFFECTS | (4096 / 4 - 1) << 16,
		.cdw14 = node->lim.csi << 24,
	};
	__u32 *log = must_alloc(4096);
	int fd = open(node->path, O_RDWR | O_CLOEXEC), ret = -1;

	if (fd >= 0) {
		cmd.addr = (uintptr_t)log;
		ret = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &cmd);
		close(fd);
	}
	/* I/O commands are in the second KiB; without a log nothing is known */
	*effects = ret ? 0 : le32toh(log[256 + opcode]);
	free(log);
	return fd >= 0 && ret >= 0;
}

static bool have_sys_admin(void)
{
	unsigned long long caps;
	char line[256];
	bool have = false;
	FILE *file = fopen("/proc/self/status", "re");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			have = caps & 1ULL << CAP_SYS_ADMIN;
	}
	if (file)
		fclose(file);
	return have;
}

bool access_explain(const struct node *node, bool admin, unsigned int opcode,
		    unsigned int dw10, char *text, size_t size)
{
	static const char *const because[] = {
		[ACCESS_ALWAYS] = "so it is for this opcode",
		[ACCESS_NO_CSUPP] = "the controller's effects log does not say that the command is supported",
		[ACCESS_OTHER_EFFECT] = "the controller's effects log says that it changes more than blocks",
		[ACCESS_NO_LENGTH] = "the controller takes no SGLs, and nobody knows how much data the command moves",
		[ACCESS_LBCC] = "the controller's effects log says that it may change blocks",
		[ACCESS_TO_CONTROLLER] = "it transfers data to the controller",
	};
	static const char *const needs[] = {
		[ACCESS_READ] = "any open node",
		[ACCESS_WRITE] = "a node that is open for writing, or CAP_SYS_ADMIN",
		[ACCESS_CAP] = "CAP_SYS_ADMIN",
		[ACCESS_NOBODY] = "what nobody has: the driver manages this itself",
	};
	const char *mine = node_access(node);
	const struct access_rule *rule = NULL;
	bool may = false, known = true;
	__u32 effects = 0;
	size_t i;

	if (!admin)
		known = read_effects(node, opcode, &effects);
	for (i = 0; i < ARRAY_SIZE(access_rules); i++) {
		rule = &access_rules[i];
		if (rule->queue != (admin ? ACCESS_ADMIN : ACCESS_IO) ||
		    !access_within(node->lim.csi, &rule->csi) ||
		    !access_within(opcode, &rule->opcode) || !access_within(dw10, &rule->dw10))
			continue;
		/* without the log it may be this one, or one that comes later */
		if (!known && rule->condition != ACCESS_ALWAYS) {
			snprintf(text, size, "%02Xh: the effects log, on which it depends, takes a node that is open for writing: ask as root",
				 opcode);
			return false;
		}
		if (access_holds(rule->condition, node->lim.csi, opcode,
				 effects,
				 !(node->lim.features & NVME_NG_F_SGL)))
			break;
	}
	switch (rule->needs) {
	case ACCESS_READ:
		may = strcmp(mine, "no");
		break;
	case ACCESS_WRITE:
		may = strchr(mine, 'w') || (have_sys_admin() && strcmp(mine, "no"));
		break;
	case ACCESS_CAP:
		may = have_sys_admin() && strcmp(mine, "no");
		break;
	case ACCESS_NOBODY:
		break;
	}
	snprintf(text, size, "%s command %02Xh needs %s: %s",
		 admin ? "admin" : "I/O", opcode, needs[rule->needs],
		 because[rule->condition]);
	return may;
}
