#!/usr/bin/env bash
# Makes the spoken words of the exchange anew: 8 kHz mono WAV, one file for each word.
# Needs the Debian packages espeak-ng and sox; the daemon itself needs neither.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

speak() { # language voice file text
    mkdir -p "$1"
    espeak-ng -v "$2" -s "${SPEED:-150}" --stdout -- "$4" \
        | sox --ignore-length -V1 -t wav - -r 8000 -c 1 -b 8 -e u-law "$1/$3.wav" \
            gain -n -6 rate 8000 silence 1 0.01 0.3% reverse silence 1 0.01 0.3% reverse pad 0 0.06
}

en() { speak en en-us "$1" "$2"; }
zh() { SPEED=160 speak zh cmn "$1" "$2"; }

for n in $(seq 0 19); do en "$n" "$n"; done
for n in 20 30 40 50 60 70 80 90; do en "$n" "$n"; done
en hundred "hundred"
en position "You are number"
en in-line "in the queue."
en wait "Your expected waiting time is"
en less-than-a-minute "less than one minute."
en minute "minute."
en minutes "minutes."
en press "Press"
en for-callback "to be called back without losing your place."
en for-adverts "to hear about our services while you wait."
en to-leave "for another choice."
en callback-kept "Your place is kept. We will call you back. Good bye."
en caller-left "The caller has left."
en closed "We are closed now. Please call again later."

zh 0 "零"; zh 1 "一"; zh 2 "二"; zh 3 "三"; zh 4 "四"; zh 5 "五"; zh 6 "六"; zh 7 "七"
zh 8 "八"; zh 9 "九"; zh 10 "十"; zh hundred "百"; zh two "两"
zh position "您排在第"
zh in-line "位。"
zh wait "预计等待时间"
zh less-than-a-minute "不到一分钟。"
zh minute "分钟。"
zh minutes "分钟。"
zh press "请按"
zh for-callback "我们将按您的位置给您回电。"
zh for-adverts "收听我们的业务介绍。"
zh to-leave "选择其他服务。"
zh callback-kept "您的位置已保留，我们会给您回电，再见。"
zh caller-left "来电者已挂机。"
zh closed "现在是非工作时间，请稍后再拨。"
